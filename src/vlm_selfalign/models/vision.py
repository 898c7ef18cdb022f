"""Each picture and clip through the vision tower once, however many prompts of a batch show it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vlm_selfalign.models.families import unwrapped
from vlm_selfalign.models.looks import Look

_ENTRANCES = {"image": "pixel_values", "video": "pixel_values_videos"}
_FIELDS = ("pooler_output", "deepstack_features")
"""What language models read of a tower's output."""


class Features:
    """A tower's output, as attributes; forwards read no more of it."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


def takes_features(model: Any) -> bool:
    """Whether its forward takes what the tower made in place of pixels."""
    return "mm_encoder_outputs" in inspect.signature(unwrapped(model).forward).parameters


def features_of(
    model: Any, looks: Sequence[Look], device: torch.device, seen: dict[Any, Any] | None = None
) -> dict[str, Features]:
    """``mm_encoder_outputs`` for prompts that show these looks, in this order.

    A look that several prompts share is seen once; ``seen`` holds what was seen before and is added to.
    """
    seen = {} if seen is None else seen
    for look in looks:
        if id(look) not in seen:  # the look beside it: as long as it lives no other has its id
            seen[id(look)] = look, [_seen(unwrapped(model), part, device) for part in look.parts]
    found = [part for look in looks for part in seen[id(look)][1]]
    names = dict.fromkeys(name for one in found for name in one)
    return {name: Features(**_chained([one[name] for one in found if name in one])) for name in names}


def _seen(model: Any, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for modality, entrance in _ENTRANCES.items():
        if entrance in tensors:
            eye = getattr(model.base_model, f"get_{modality}_features")
            taken = inspect.signature(eye).parameters
            given = {name: tensor.to(device) for name, tensor in tensors.items() if name in taken}
            given = {name: t.to(model.dtype) if t.is_floating_point() else t for name, t in given.items()}
            out = eye(**given, return_dict=True)
            found[modality] = {name: out[name] for name in _FIELDS if out.get(name) is not None}
    return found


def _chained(found: Sequence[Any]) -> Any:
    """Several prompts' features as one forward wants them: medium after medium, level by level."""
    first = found[0]
    if isinstance(first, Mapping):
        return {key: _chained([one[key] for one in found]) for key in first}
    if isinstance(first, Tensor):
        # One row of all tokens: clips of unequal length cannot be stacked, and forwards lay them end to end anyway
        return torch.cat([one.flatten(0, -2) for one in found])[None]
    if len(first) and not isinstance(first[0], Tensor):
        return [_chained(level) for level in zip(*found, strict=True)]
    return tuple(tensor for one in found for tensor in one)
