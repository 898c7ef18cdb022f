"""Each picture through the vision tower once per step; through a frozen tower once and for all.

What the tower makes of a picture is remembered under the content of its pixels and of the tower's weights: first in
memory, then in files, both bounded, the longest unused leaving first. A changed picture, processor setting or weight is
another key, so there is nothing to invalidate.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm_selfalign.core.seeds import digest
from vlm_selfalign.models.families import parameters_of, parts, unwrapped

Features = dict[str, dict[str, Any]]
"""Modality (``image``, ``video``) to the fields of what the tower returned: tensors, or (lists of) lists of them."""

_ENTRANCES = {"image": "pixel_values", "video": "pixel_values_videos"}
_LEFT_OUT = ("last_hidden_state", "hidden_states", "attentions")
"""What a tower returns besides what the language model is given."""


@dataclass(frozen=True)
class Look:
    """What one prompt shows: the key of its content, and how to get the tensors that the tower reads."""

    key: str
    load: Callable[[], Mapping[str, Tensor]] = field(compare=False, repr=False)


def content_key(tensors: Mapping[str, Tensor]) -> str:
    """Hex digest of named tensors: names, shapes, types and every byte."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous().cpu()
        found.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        found.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return found.hexdigest()


class Vision:
    """Features of what prompts show, for a policy and its reference alike.

    Args:
        folder: Where features are kept beyond memory; None keeps none there.
        memory: Bytes of features held in memory.
        disk: Bytes of feature files.
    """

    def __init__(self, folder: Path | None = None, memory: int = 1 << 30, disk: int = 32 << 30) -> None:
        self.calls = 0
        """Times that a tower ran."""
        self._files = Files(folder, disk) if folder else None
        self._known: OrderedDict[str, Features] = OrderedDict()
        self._room = memory
        self._towers: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def features(self, model: Any, looks: Sequence[Look], device: torch.device) -> dict[str, Any]:
        """The keyword ``mm_encoder_outputs`` of a forward over these looks, in this order.

        The graph goes through a tower that learns; one that does not gets none at all (TRL 1.16 builds one).
        """
        if not looks:
            return {}
        if any(p.requires_grad for p in parameters_of(model, ["vision"])):
            fresh = {look.key: look for look in looks}
            seen = {key: self._seen(model, look, device) for key, look in fresh.items()}
            found = [seen[look.key] for look in looks]
        else:
            with torch.no_grad():
                found = [self._remembered(model, look, device) for look in looks]
        return {name: _Output(**_chained([one[name] for one in found if name in one])) for name in _names(found)}

    def forget(self) -> None:
        """Let go of all features in memory; those in files stay."""
        while self._known:
            self._room += _bytes(self._known.popitem()[1])

    def _remembered(self, model: Any, look: Look, device: torch.device) -> Features:
        key = digest(look.key, self._tower(model), str(device.type), _precision(model, device))
        found = self._known.pop(key, None) or (self._files.read(key) if self._files else None)
        if found is None:
            found = self._seen(model, look, device)
            if self._files:
                self._files.write(key, found)
        self._keep(key, found)
        return _moved(found, device)

    def _keep(self, key: str, found: Features) -> None:
        self._known[key] = found
        self._room -= _bytes(found)
        while self._room < 0:
            self._room += _bytes(self._known.popitem(last=False)[1])

    def _seen(self, model: Any, look: Look, device: torch.device) -> Features:
        self.calls += 1
        tensors = {name: tensor.to(device) for name, tensor in look.load().items()}
        made: Features = {}
        for modality, entrance in _ENTRANCES.items():
            if entrance in tensors:
                eye = getattr(unwrapped(model).base_model, f"get_{modality}_features")
                taken = inspect.signature(eye).parameters
                found = eye(**{name: t for name, t in tensors.items() if name in taken}, return_dict=True)
                made[modality] = {k: v for k, v in found.items() if k not in _LEFT_OUT and v is not None}
        return made

    def _tower(self, model: Any) -> str:
        """Digest of the weights that see, and of which adapters among them act."""
        inner = unwrapped(model)
        if inner not in self._towers:
            weights = parameters_of(model, ["vision"])
            self._towers[inner] = content_key({str(place): weight for place, weight in enumerate(weights)})
        return digest(self._towers[inner], _adapters(inner))


class _Output:
    """What a tower returned, as attributes; forwards read no more of it."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


class Files:
    """Features as safetensors files, one per key, bounded; the longest unused leaves first."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> Features | None:
        """What is kept under a key. A file that cannot be read counts as none."""
        path = self.folder / f"{key}.safetensors"
        with contextlib.suppress(OSError, SafetensorError, ValueError):
            found = _unflat(load_file(path))
            os.utime(path)
            return found
        return None

    def write(self, key: str, features: Features) -> None:
        """Keep features; a full disk keeps none."""
        path = self.folder / f"{key}.safetensors"
        draft = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError, SafetensorError):
            save_file({name: tensor.contiguous().cpu() for name, tensor in _flat(features)}, draft)
            draft.replace(path)
            self._make_room()
        draft.unlink(missing_ok=True)

    def _make_room(self) -> None:
        found = sorted((stat.st_mtime, stat.st_size, path) for path, stat in _stats(self.folder))
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= size


def _stats(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(FileNotFoundError):
            yield path, path.stat()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}/{key}" if name else key)
    else:
        for place, part in enumerate(value):
            yield from _flat(part, f"{name}/{place}")


def _unflat(tensors: Mapping[str, Tensor]) -> Any:
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *above, last = name.split("/")
        inner = tree
        for part in above:
            inner = inner.setdefault(part, {})
        inner[last] = tensor
    return _listed(tree)


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if all(key.isdigit() for key in value):
        return tuple(_listed(value[key]) for key in sorted(value, key=int))
    return {key: _listed(part) for key, part in value.items()}


def _names(found: Sequence[Features]) -> list[str]:
    return list(dict.fromkeys(name for one in found for name in one))


def _chained(found: Sequence[Any]) -> Any:
    """Several prompts' features as one forward wants them: pictures one after the other, level by level."""
    first = found[0]
    if isinstance(first, Mapping):
        return {key: _chained([one[key] for one in found]) for key in first}
    if isinstance(first, Tensor):
        # One row of all tokens: clips of unequal length cannot be stacked, and forwards lay them end to end anyway
        return first if len(found) == 1 else torch.cat([one.flatten(0, -2) for one in found])[None]
    if len(first) and not isinstance(first[0], Tensor):
        return [_chained(level) for level in zip(*found, strict=True)]
    return tuple(tensor for one in found for tensor in one)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(part, device) for key, part in value.items()}
    return tuple(_moved(part, device) for part in value)


def _bytes(features: Features) -> int:
    return sum(tensor.nbytes for _, tensor in _flat(features))


def _precision(model: Any, device: torch.device) -> str:
    cast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    return f"{unwrapped(model).dtype}/{cast}"


def _adapters(inner: Any) -> tuple[Any, ...]:
    eyes = parts(inner)["vision"]
    found = (m for name, m in inner.named_modules() if any(f"{name}.".startswith(f"{eye}.") for eye in eyes))
    return tuple((m.disable_adapters, tuple(m.active_adapters)) for m in found if isinstance(m, BaseTunerLayer))
