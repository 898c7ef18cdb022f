"""Weights that ship are what their card says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.graft.clip import SHIPPED as CLIP
from vlm_selfalign.models import load as loading
from vlm_selfalign.models.clip_service import ClipService
from vlm_selfalign.models.identity import check_card
from vlm_selfalign.models.load import EMBEDDED


@pytest.mark.parametrize("shipped", [EMBEDDED, CLIP], ids=["embedded", "clip"])
def test_what_ships_is_what_its_card_says(shipped: Path, tmp_path: Path) -> None:
    check_card(shipped)
    copy = shutil.copytree(shipped, tmp_path / "copy")
    (weights,) = copy.glob("*.safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(
        UserError, match=r"safetensors: has the hash .* its card says .*; reinstall the package"
    ) as told:
        check_card(copy)
    assert "\n" not in str(told.value)
    weights.unlink()
    with pytest.raises(UserError, match=r"safetensors: missing, though CARD.json names it"):
        check_card(copy)


def test_a_folder_without_a_card_is_somebody_elses(tmp_path: Path) -> None:
    check_card(tmp_path)


def test_changed_weights_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shipped in (EMBEDDED, CLIP):
        copy = shutil.copytree(shipped, tmp_path / shipped.name)
        (weights,) = copy.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes() + b" ")
    monkeypatch.setattr(loading, "EMBEDDED", tmp_path / EMBEDDED.name)
    with pytest.raises(UserError, match="has the hash"):
        loading.load(ModelSettings(path="embedded"))
    assert (
        "has the hash" in ClipService(tmp_path / CLIP.name).identity or ClipService(tmp_path / CLIP.name)._cannot_load()
    )
