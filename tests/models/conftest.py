"""Tiny checkpoints built once per session, and a few pictures on disk."""

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.media import Media
from vlm_selfalign.media.image import image_media
from vlm_selfalign.models.load import Loaded, load
from vlm_selfalign.models.tiny import build

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """The folder of a family's tiny checkpoint; tests must not change it."""
    return cache(lambda family: build(family, tmp_path_factory.mktemp("tiny") / family))


@pytest.fixture(scope="session")
def loaded(folder_of):
    """A family's tiny model, loaded once: tests must leave it as they found it."""

    def of(family: str) -> Loaded:
        return load(ModelSettings(path=str(folder_of(family)), device="cpu"))

    return cache(of)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Media]:
    """Eight noisy pictures of different shapes."""
    folder = tmp_path_factory.mktemp("photos")
    chance = np.random.default_rng(0)
    found = []
    for i, (w, h) in enumerate([(48, 48), (64, 40), (33, 57), (80, 30), (48, 48), (20, 20), (64, 64), (50, 70)]):
        path = folder / f"{i}.png"
        Image.fromarray(chance.integers(0, 255, (h, w, 3), dtype=np.uint8)).save(path)
        found.append(image_media(str(path)))
    return found
