"""Who a model is: a hash of everything that can change an answer, and of nothing else.

Counts: the content of weights, adapter, configuration, tokenizer, processor and chat template; precision, device
type; versions of the libraries that compute. Does not count: the path, and who saved the files with what.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.seeds import digest

CARD = "CARD.json"
_LIBRARIES = ("torch", "torchvision", "transformers", "tokenizers", "peft", "pillow")
_SETTINGS = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py")
_NOT_CONTENT = ("version.json", "trainer_state.json", "README.md", "MANIFEST.json")
_PROVENANCE = ("_name_or_path", "name_or_path", "base_model_name_or_path", "transformers_version", "peft_version")
"""Keys of configuration files that name a place or a writer."""


def identity_of(folders: Iterable[Path], also: Mapping[str, Any]) -> str:
    """Hex hash (128 bit) of the model files in ``folders`` and the settings in ``also``."""
    files = [sorted((path.name, file_digest(path)) for path in _files(folder)) for folder in folders]
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return digest(files, sorted(also.items()), sorted(versions.items()))


def _files(folder: Path) -> list[Path]:
    found = [path for pattern in ("*.safetensors", *_SETTINGS) for path in folder.glob(pattern)]
    return [path for path in found if path.name not in _NOT_CONTENT]


def file_digest(path: Path) -> str:
    """Size and BLAKE2b of a weights file, of a JSON file without its provenance; big files are hashed once.

    The hash of a file over 16 MB is remembered in the user's cache folder under its path, size and time.
    """
    stat = path.stat()
    if path.suffix == ".json" and path.name != "tokenizer.json":
        return digest(_without_provenance(path))
    if stat.st_size < 16 << 20:
        return _hashed(path)
    cached = cache_folder() / "digests" / digest(str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    try:
        return cached.read_text()
    except OSError:
        pass
    found = _hashed(path)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        temporary = cached.with_suffix(f".{os.getpid()}")
        temporary.write_text(found)
        temporary.replace(cached)
    except OSError:
        pass  # a read-only home costs time, nothing else
    return found


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return f"{file.tell()}:{content.hexdigest()}"


def _without_provenance(path: Path) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        return _hashed(path)
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _plain(item)) for key, item in value.items() if key not in _PROVENANCE)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def cache_folder() -> Path:
    """Where this package keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm_selfalign"


def check_card(folder: Path) -> None:
    """Raises ``UserError`` where weights that ship are not what the ``CARD.json`` beside them says."""
    if not (folder / CARD).is_file():
        return
    card = json.loads((folder / CARD).read_text())
    sums = card.get("sha256", {})
    for name, known in (sums if isinstance(sums, dict) else {card["weights"]: sums}).items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing, though {CARD} names it; reinstall the package")
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != known:
            raise UserError(
                f"{folder / name}: has the hash {found[:12]}..., its card says {known[:12]}...; reinstall the package"
            )
