"""Whether a model's forward can be given a tree, and how: asked of the model, never tried out.

A wrong mask raises nothing: a linear-attention layer simply reads on over the end of a branch. So kinds of layers
decide, and what is not known is refused with the reason.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vlm_selfalign.models.families import parameters_of, takes_images, unwrapped
from vlm_selfalign.train.engine.attention import NAME
from vlm_selfalign.train.engine.forked import can_fork
from vlm_selfalign.train.engine.head import is_plain

FULL, SLIDING = "full_attention", "sliding_attention"
_SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
"""Settings by which families change logits after the output layer."""


class Unfit(Exception):
    """A model or batch cannot take a tree; the text says why."""


@dataclass(frozen=True)
class Shape:
    """How a model is to be given a tree."""

    backend: Literal["split", "dense", "forked"]
    """``split``: triangles and rectangles, no mask; ``dense``: masks ``[T, T]`` that say the same, for windows and for
    pictures whose tokens see each other both ways; ``forked``: node by node, for layers that read on."""
    layers: int
    kinds: tuple[str, ...]
    """Kinds of layers that want a mask of their own."""
    window: int | None
    blocks: Callable[..., Tensor] | None
    """The family's own: which tokens see each other both ways."""
    prunes: bool
    """Its last layer can be given the wanted places alone."""


def shape_of(model: Any, device_type: str = "cpu", half: bool = False) -> Shape:
    """How to give this model a tree. Raises ``Unfit``."""
    inner = unwrapped(model)
    text = inner.config.get_text_config()
    _refuse_strangers(inner, text)
    layers = text.num_hidden_layers
    kinds = tuple(dict.fromkeys(_layer_types(text)[:layers]))
    if _reads_on(inner, kinds):
        _refuse_to_fork(inner, text)
        return Shape("forked", layers, kinds, None, None, prunes=False)
    strange = [kind for kind in kinds if kind not in (FULL, SLIDING)]
    if strange:
        raise Unfit(f"it has {strange[0]} layers, which the tree does not know")
    blocks = getattr(sys.modules[type(inner).__module__], "get_block_sequence_ids_for_mask", None)
    fused = device_type == "cpu" or (device_type == "cuda" and half)
    split = kinds == (FULL,) and blocks is None and fused
    window = getattr(text, "sliding_window", None) if SLIDING in kinds else None
    # Qwen3-VL adds features of pictures after its first layers, to all tokens
    fed = len(getattr(getattr(inner.config, "vision_config", None), "deepstack_visual_indexes", None) or ())
    return Shape("split" if split else "dense", layers, kinds, window, blocks, prunes=fed < layers)


def _refuse_strangers(inner: Any, text: Any) -> None:
    if inner.config.is_encoder_decoder:
        raise Unfit("it has an encoder for the prompt and a decoder for the answer")
    if text._attn_implementation not in ("sdpa", NAME):
        raise Unfit(f"its attention is '{text._attn_implementation}', and the tree's goes in the place of 'sdpa'")
    if not inner._can_set_attn_implementation():
        raise Unfit("its attention cannot be exchanged")
    if getattr(text, "use_bidirectional_attention", False):
        raise Unfit("its attention is not causal")
    if not is_plain(inner.get_output_embeddings()):
        raise Unfit("its output layer is more than a matrix (an adapter on it, or quantised)")
    scaled = [name for name in _SCALED if getattr(text, name, None) is not None]
    if scaled:
        raise Unfit(f"it changes logits after the output layer ({scaled[0]})")
    if takes_images(inner) and "mm_encoder_outputs" not in inspect.signature(inner.base_model.forward).parameters:
        raise Unfit("its forward does not take the features of pictures")
    if _is_sharded() and any(p.requires_grad for p in parameters_of(inner, ["vision"])):
        raise Unfit("its tower learns under FSDP, whose processes would have to look at equally many pictures")


def _is_sharded() -> bool:
    """Whether weights are, or before the first step will be, shared out among processes."""
    return torch.distributed.is_initialized() and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def _reads_on(inner: Any, kinds: tuple[str, ...]) -> bool:
    """Whether some layer goes on from token to token, whatever a mask says."""
    return getattr(inner, "_is_stateful", False) or any("linear" in kind or kind == "conv" for kind in kinds)


def _refuse_to_fork(inner: Any, text: Any) -> None:
    if takes_images(inner):
        raise Unfit("it has layers that read on from branch to branch, and pictures beside them")
    if not can_fork(text):
        raise Unfit("it has layers whose states are of a kind that is not known to fork")
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        raise Unfit("its states are forked in several forwards a step, which parallel processes do not take")


def _layer_types(text: Any) -> list[str]:
    named = getattr(text, "layer_types", None)
    if named:
        return list(named)
    return [SLIDING if getattr(text, "sliding_window", None) else FULL] * text.num_hidden_layers
