"""A folder of weights is there whole and checked, or it is not there.

``publish`` writes into a temporary folder, syncs every file, writes ``MANIFEST.json`` (size and BLAKE2b of each
file) last, and renames. ``safetensors`` refuses a cut file but loads a half of zeros, a flipped bit and NaN without
complaint: the manifest catches the first two, ``non_finite`` the third before it is published.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from vlm_selfalign.core.errors import UserError

MANIFEST = "MANIFEST.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


class Damaged(UserError):
    """A folder is not what its manifest says; the message names the first file and what is wrong with it."""


def publish(write: Callable[[Path], None], target: Path, step: int = 0, spec: str = "") -> Path:
    """Let ``write(folder)`` fill a folder, and make it ``target`` in one move; an older ``target`` is replaced.

    Raises ``UserError`` when a weight is not finite or weights are pickled; then nothing is published and an older
    ``target`` stays. A full disk raises ``OSError`` likewise.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".draft-{target.name}-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        write(draft)
        _refuse_pickles(draft)
        return seal(draft, target, step, spec)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def seal(draft: Path, target: Path, step: int = 0, spec: str = "") -> Path:
    """Check, sync and list the files of ``draft`` and rename it to ``target`` (same file system)."""
    bad = non_finite(draft)
    if bad:
        raise UserError(f"{target}: weights are not finite ({', '.join(bad[:3])}); nothing is saved over good ones")
    files = {}
    for path in _files(draft):
        _sync(path)
        files[str(path.relative_to(draft))] = {"size": path.stat().st_size, "blake2b": _hash(path)}
    body = json.dumps({"step": step, "spec": spec, "files": files}, indent=1, sort_keys=True)
    manifest = draft / MANIFEST
    manifest.write_text(body)
    _sync(manifest)
    for folder in {path.parent for path in _files(draft)}:
        _sync(folder)
    trash = target.with_name(f".old-{target.name}-{os.getpid()}")
    if target.exists():
        target.rename(trash)
    draft.rename(target)
    _sync(target.parent)
    shutil.rmtree(trash, ignore_errors=True)
    return target


def verify(folder: Path) -> dict[str, Any]:
    """The manifest (``step``, ``spec``, ``files``) of an undamaged folder. Raises ``Damaged``."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = {str(name): dict(entry) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        raise Damaged(f"{folder}: no {MANIFEST}: it was not finished") from None
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise Damaged(f"{folder}: unreadable {MANIFEST}: {error}") from None
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{folder}: {name} is missing")
        if path.stat().st_size != entry.get("size"):
            raise Damaged(f"{folder}: {name} has {path.stat().st_size} bytes instead of {entry.get('size')}")
        if _hash(path) != entry.get("blake2b"):
            raise Damaged(f"{folder}: the content of {name} has changed")
    return manifest


def newest(folder: Path, spec: str = "") -> tuple[Path | None, list[str]]:
    """The ``step-N`` of largest N that verifies and belongs to this spec, and why others were passed over."""
    found = sorted(
        (path for path in Path(folder).glob("step-*") if path.name[5:].isdigit()),
        key=lambda path: int(path.name[5:]),
        reverse=True,
    )
    passed = []
    for path in found:
        try:
            manifest = verify(path)
            bad = non_finite(path)
        except Damaged as reason:
            passed.append(str(reason))
            continue
        if bad:
            passed.append(f"{path}: not finite: {bad[0]}")
        elif spec and manifest.get("spec") != spec:
            passed.append(f"{path}: belongs to other settings")
        else:
            return path, passed
    return None, passed


def non_finite(folder: Path) -> list[str]:
    """Names of the tensors in a folder's safetensors files that hold NaN or infinity. Raises ``Damaged`` if cut."""
    bad = []
    for path in sorted(Path(folder).rglob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    tensor = tensors.get_tensor(name)
                    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                        bad.append(name)
        except Exception as error:
            raise Damaged(f"{folder}: {path.name} cannot be read: {error}") from None
    return bad


def _refuse_pickles(folder: Path) -> None:
    for path in _files(folder):
        if path.suffix in PICKLES:
            raise UserError(f"{path.name}: pickled weights are not published; save as safetensors")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
