"""What differs between model families, asked of the model itself wherever it knows.

transformers names the vision tower (``get_encoder``), the language model (``get_decoder``) and the embeddings of
every family; a table is left only for projectors that live inside the tower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn

from vlm_selfalign.core.errors import UserError, nearest

Part = Literal["vision", "projector", "language", "embeddings", "head"]

_PROJECTOR_IN_TOWER = ("merger", "deepstack_merger_list")
"""Qwen's towers end in the projector; all other families keep it beside the tower."""


def unwrapped(model: Any) -> Any:
    """The transformers model itself, its LoRA layers in place, without PEFT's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def takes_images(model: Any) -> bool:
    """Whether pictures can be shown to it."""
    return "image" in (getattr(unwrapped(model), "input_modalities", None) or ())


def image_token_id(model: Any) -> int | None:
    """The token that stands for a picture's features in the ids, or None for a text-only model."""
    config = unwrapped(model).config
    return getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)


def placeholder_ids(model: Any) -> list[int]:
    """The tokens that stand for features of pictures and clips; most families have one for each, some one for both."""
    config = unwrapped(model).config
    names = (f"{kind}_token_{what}" for kind in ("image", "video") for what in ("id", "index"))
    found = (getattr(config, name, None) for name in names)
    return sorted({token for token in found if token is not None})


def parts(model: Any) -> dict[Part, tuple[str, ...]]:
    """Names of each part's modules, relative to the model without PEFT's wrapper.

    ``vision`` is all that turns pictures into embeddings, the projector included, as freezing it should mean;
    ``projector`` is the last piece of that, with parameters that lie beside all modules (LLaVA-OneVision's
    ``image_newline``); ``head`` is the output layer; a part that a model lacks is ``()``.
    """
    model = unwrapped(model)
    name_of = {id(module): name for name, module in model.named_modules()}
    language = model.get_decoder()
    vision, projector = _vision(model, name_of, language)
    head = model.get_output_embeddings()
    return {
        "vision": vision,
        "projector": projector,
        "language": (name_of[id(language)],),
        "embeddings": (name_of[id(model.get_input_embeddings())],),
        "head": (name_of[id(head)],) if head is not None else (),
    }


def _vision(model: Any, name_of: dict[int, str], language: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not takes_images(model):
        return (), ()
    tower = model.get_encoder(modality="image")
    inside = tuple(f"{name_of[id(tower)]}.{name}" for name in _PROJECTOR_IN_TOWER if hasattr(tower, name))
    beside = [child for child in model.base_model.children() if child is not tower and child is not language]
    beside_names = tuple(name_of[id(child)] for child in beside if any(True for _ in child.parameters()))
    root = name_of[id(model.base_model)]
    beside_names += tuple(f"{root}.{name}" for name, _ in model.base_model.named_parameters(recurse=False))
    return (name_of[id(tower)], *beside_names), (*inside, *beside_names)


def parameters_of(model: Any, wanted: Iterable[str]) -> list[nn.Parameter]:
    """The parameters of the named parts. Raises ``UserError`` for an unknown part; a missing one has none."""
    names = parts(model)
    prefixes: list[str] = []
    for part in wanted:
        if part not in names:
            raise UserError(f"no part of a model is called '{part}'{nearest(part, list(names))}")
        prefixes += names[part]
    # tied weights have two names, and either may be the one that is wanted
    named = unwrapped(model).named_parameters(remove_duplicate=False)
    found = {id(p): p for name, p in named if any((name + ".").startswith(prefix + ".") for prefix in prefixes)}
    return list(found.values())


def lora_targets(model: Any, targets: Literal["language", "all"] | tuple[str, ...]) -> list[str]:
    """Full names of the linear layers that adapters go on; the output layer never.

    ``language`` takes those of the language model, ``all`` every one, a tuple of names those that end in one of
    them. Raises ``UserError`` when nothing fits.
    """
    model = unwrapped(model)
    head = parts(model)["head"]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name not in head]
    if targets == "language":
        (prefix,) = parts(model)["language"]
        return [name for name in linear if name.startswith(prefix + ".")]
    if targets == "all":
        return linear
    for target in targets:
        if not any(_ends_in(name, target) for name in linear):
            last = {name.rpartition(".")[2] for name in linear}
            raise UserError(f"model.lora.targets: no linear layer is called '{target}'{nearest(target, last)}")
    return [name for name in linear if any(_ends_in(name, target) for target in targets)]


def _ends_in(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)
