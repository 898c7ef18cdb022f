"""Adapters that act on answers alone: a prompt, and whatever is cached of it, stays the base model's.

Such an adapter acts from the *opening* on: the tokens that the chat template writes where the assistant's turn begins
and whose last one predicts the answer's first. In a dialogue the last opening counts. It is the activated LoRA of
Greenewald et al. (2025) and is saved as PEFT's (``alora_invocation_tokens`` in ``adapter_config.json``), so whatever
serves those serves it.

PEFT's own forward finds the opening in its wrapper, which services and trees of texts go around, and its hooks allow
one forward per backward under checkpointing. Here the model itself does: before its forward it notes which tokens are
an answer's, and the LoRA layers add to those alone. Shapes: N rows, T tokens, M of them an answer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.models.families import parts, unwrapped

_HELD = "_answer_places"
_MERGED = (
    "an adapter that acts on answers alone cannot be merged: merged weights would act on prompts too; "
    "serve it beside its base model, or go on with model.lora set"
)


def attach(model: PeftModel, opening: Sequence[int] | None = None) -> Places:
    """Let all adapters of a model act from ``opening`` on (default: what their configs say); again for new ones.

    Raises ``UserError`` when a LoRA layer lies outside the language model: what is seen belongs to the prompt.
    """
    inner = unwrapped(model)
    named = [config.alora_invocation_tokens for config in _configs(model) if config.alora_invocation_tokens]
    places: Places | None = getattr(inner, _HELD, None)
    if places is None:
        places = Places(tuple(opening or named[0]))
        setattr(inner, _HELD, places)
        inner.register_forward_pre_hook(places.before, with_kwargs=True)
    (language,) = parts(inner)["language"]
    for name, layer in inner.named_modules():
        if isinstance(layer, LoraLayer):
            if not name.startswith(f"{language}."):
                raise UserError(f"model.lora.targets: {name} sees the prompt, where model.lora.acts=answers is off")
            variants: dict[str, Any] = layer.lora_variant  # type: ignore[assignment]
            variants.update({adapter: OnAnswers(places) for adapter in layer.lora_A})
    for config in _configs(model):
        config.alora_invocation_tokens = None  # PEFT would search too
    return places


def acts_on_answers(model: Any) -> Places | None:
    """Where the model's adapters act, if they act on answers alone."""
    return getattr(unwrapped(model), _HELD, None)


@contextmanager
def declared(model: Any) -> Iterator[None]:
    """For the length of the block the adapters' configs say where they act, as they must when they are saved."""
    places = acts_on_answers(model)
    configs = _configs(model) if places else []
    for config in configs:
        config.alora_invocation_tokens = list(places.opening) if places else None
    try:
        yield
    finally:
        for config in configs:
            config.alora_invocation_tokens = None


class Unplaced(RuntimeError):
    """A forward of which it is not known what is an answer's; nothing is guessed."""


class Places:
    """Which tokens of the forward that runs are an answer's; stays until the next, for a backward that recomputes."""

    def __init__(self, opening: tuple[int, ...]) -> None:
        self.opening = opening
        self.mask_NT: Tensor | None = None
        self.index_M = torch.zeros(0, dtype=torch.long)
        self.kept = 0
        self._given: tuple[Tensor, int] | None = None
        self._open_N = torch.zeros(0, dtype=torch.bool)

    def give(self, mask_NT: Tensor, kept: int = 0) -> None:
        """Say it of the next forward, whose rows are not texts; layers that see ``kept`` tokens see an answer's."""
        self._given = mask_NT, kept

    def among(self, x: Tensor) -> Tensor:
        """Which rows of a layer's flattened input ``[N, T, D]`` are an answer's. Raises ``Unplaced``."""
        seen = x.shape[:-1]
        if self.mask_NT is not None and self.mask_NT.shape == seen:
            return self.index_M.to(x.device)
        if self.kept and seen == (1, self.kept):
            return torch.arange(self.kept, device=x.device)
        raise Unplaced(f"a LoRA layer saw {tuple(seen)} tokens of which nobody said whether they are an answer's")

    def before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model's hook: what was given, or else every token from a row's last opening on.

        With a cache, rows without an opening go on as they were: in the answer, or not.
        """
        (mask_NT, self.kept), self._given = self._given or (None, 0), None
        if mask_NT is None:
            ids_NT = kwargs.get("input_ids", args[0] if args else None)
            if ids_NT is None:
                raise Unplaced("an adapter that acts on answers alone needs input_ids to find them")
            mask_NT = from_opening(ids_NT, self.opening)
            cache = kwargs.get("past_key_values")
            if cache is not None and cache.get_seq_length() and len(self._open_N) == len(mask_NT):
                mask_NT |= (self._open_N.to(mask_NT.device) & ~mask_NT.any(1))[:, None]
        self.mask_NT, self._open_N = mask_NT, mask_NT[:, -1]
        self.index_M = mask_NT.flatten().nonzero().squeeze(1)


class OnAnswers:
    """PEFT's ``LoraVariant`` of a layer: the product of A and B is made of and added to answers' tokens alone."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def forward(self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """``result [N, T, ...]`` of the base layer, with the adapter's share added."""
        down, up, index_M = module.lora_A[active_adapter], module.lora_B[active_adapter], self.places.among(x)
        rows_MD = x.flatten(0, -2).index_select(0, index_M).to(down.weight.dtype)
        more_MD = up(down(module.lora_dropout[active_adapter](rows_MD))) * module.scaling[active_adapter]
        return result.flatten(0, -2).index_add(0, index_M, more_MD.to(result.dtype)).view_as(result)

    def merge_safe(self, *_: Any) -> Tensor:
        """Raises ``UserError``."""
        raise UserError(_MERGED)

    merge_unsafe = unmerge = merge_safe


def from_opening(ids_NT: Tensor, opening: Sequence[int]) -> Tensor:
    """Bool ``[N, T]``: every token from a row's last ``opening`` on; none of a row without."""
    wanted = torch.tensor(opening, device=ids_NT.device)
    width = ids_NT.shape[1]
    if width < len(wanted):
        return torch.zeros_like(ids_NT, dtype=torch.bool)
    hits_NS = (ids_NT.unfold(1, len(wanted), 1) == wanted).all(2)
    place_T = torch.arange(width, device=ids_NT.device)
    last_N = torch.where(hits_NS, place_T[: hits_NS.shape[1]], -1).amax(1)
    return (last_N[:, None] >= 0) & (place_T >= last_N[:, None])


def opening_of(tokens: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """What prompts with different words all end with. Raises ``UserError`` when that is nothing."""
    ends: list[int] = []
    for column in zip(*(reversed(ids) for ids in tokens), strict=False):
        if len(set(column)) > 1:
            break
        ends.append(column[0])
    if not ends:
        raise UserError("model.lora.acts=answers: the chat template writes nothing where an answer begins")
    return tuple(reversed(ends))


def _configs(model: Any) -> list[Any]:
    return list(model.peft_config.values())
