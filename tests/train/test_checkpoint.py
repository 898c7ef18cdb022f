import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.train import checkpoint
from vlm_selfalign.train.checkpoint import MANIFEST, Damaged, newest, publish, verify

WEIGHTS = {"a": torch.arange(4096.0), "b": torch.randn(64, 64)}


def write(folder, weights=None):
    (folder / "deep").mkdir()
    save_file(weights or WEIGHTS, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "deep" / "note.txt").write_text("kept")


def saved(folder, step, spec="s"):
    return publish(write, folder / f"step-{step}", step, spec)


def test_published_is_whole(tmp_path):
    folder = publish(write, tmp_path / "version", 7, "key")
    manifest = verify(folder)
    assert manifest["step"] == 7 and manifest["spec"] == "key"
    assert set(manifest["files"]) == {"model.safetensors", "config.json", "deep/note.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["version"]
    again = publish(write, tmp_path / "version", 8, "key")
    assert verify(again)["step"] == 8 and [path.name for path in tmp_path.iterdir()] == ["version"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def zero_half(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def nan(path):
    save_file(load_file(path) | {"a": torch.full((4096,), float("nan"))}, path)


DAMAGE = {
    "cut": cut,
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "zero half": zero_half,
    "bit flip": flip,
    "nan": nan,
    "no manifest": lambda path: (path.parent / MANIFEST).unlink(),
    "torn manifest": lambda path: (path.parent / MANIFEST).write_text('{"files": {'),
    "odd manifest": lambda path: (path.parent / MANIFEST).write_text('{"files": []}'),
    "missing file": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_and_the_one_before_is_taken(tmp_path, damage):
    good = saved(tmp_path, 9)
    bad = saved(tmp_path, 10)
    DAMAGE[damage](bad / "model.safetensors")
    with pytest.raises(Damaged, match="step-10"):
        verify(bad)
    found, passed = newest(tmp_path, "s")
    assert found == good and len(passed) == 1 and "step-10" in passed[0]


def test_safetensors_alone_would_load_these(tmp_path):
    """Why there is a manifest at all."""
    for damage in (zero_half, flip, nan):
        folder = saved(tmp_path, 1)
        damage(folder / "model.safetensors")
        load_file(folder / "model.safetensors")


def test_nan_with_a_true_manifest_is_still_passed_over(tmp_path):
    good, bad = saved(tmp_path, 1), saved(tmp_path, 2)
    nan(bad / "model.safetensors")
    manifest = json.loads((bad / MANIFEST).read_text())
    path = bad / "model.safetensors"
    manifest["files"]["model.safetensors"] = {"size": path.stat().st_size, "blake2b": checkpoint._hash(path)}
    (bad / MANIFEST).write_text(json.dumps(manifest))
    verify(bad)
    found, passed = newest(tmp_path)
    assert found == good and "not finite: a" in passed[0]


def test_other_settings_are_passed_over(tmp_path):
    mine = saved(tmp_path, 1, "mine")
    saved(tmp_path, 2, "theirs")
    found, passed = newest(tmp_path, "mine")
    assert found == mine and "other settings" in passed[0]
    assert newest(tmp_path / "nowhere") == (None, [])


def test_nan_and_pickles_are_never_published_and_the_old_version_stays(tmp_path):
    publish(write, tmp_path / "v", 1)
    with pytest.raises(UserError, match="not finite"):
        publish(lambda folder: write(folder, {"a": torch.tensor([1.0, float("inf")])}), tmp_path / "v", 2)
    with pytest.raises(UserError, match="pickled"):
        publish(lambda folder: torch.save({}, folder / "model.bin"), tmp_path / "v", 3)
    assert verify(tmp_path / "v")["step"] == 1 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "rename", "write"])
def test_a_full_disk_leaves_the_old_version(tmp_path, monkeypatch, call):
    publish(write, tmp_path / "v", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif call == "rename":
        monkeypatch.setattr(type(tmp_path), "rename", full)
    with pytest.raises(OSError, match="No space"):
        publish(full if call == "write" else write, tmp_path / "v", 2)
    monkeypatch.undo()
    assert verify(tmp_path / "v")["step"] == 1 and [path.name for path in tmp_path.iterdir()] == ["v"]
