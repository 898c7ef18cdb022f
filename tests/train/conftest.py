import os

os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import pytest
import torch
from PIL import Image

from vlm_selfalign.core.media import Media
from vlm_selfalign.media.image import image_media
from vlm_selfalign.models.tiny import build

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("qwen2_vl", tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Media]:
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for i, (width, height) in enumerate([(28, 28), (56, 28), (28, 56), (42, 42)]):
        path = folder / f"{i}.png"
        Image.effect_noise((width, height), 80).convert("RGB").save(path)
        made.append(image_media(str(path)))
    return made
