"""Attention over a tree without a mask: every node sees itself causally, and each node is seen by all below it.

In the packed row a node is a run of tokens and its descendants are the run behind it, so what may be seen is a set of
triangles (a node and itself) and rectangles (a node's descendants and the node). Each is one call of torch's fused
attention on slices, with nothing computed that is thrown away, and their results are merged by their log-sums
(Dao et al. 2022, FlashAttention; Liu et al. 2023, ring attention). The backward of a piece only needs the merged
output and log-sum, so neither a mask nor a second copy of the prefix's keys is ever held.

Shapes: B = 1, H heads (of keys and values a divisor of H), T tokens, Q tokens that ask, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from vlm_selfalign.train.engine.tree import Node

NAME = "vlm_selfalign_tree"
"""What the language model's attention is called while the engine has it; without a tree it is plain ``sdpa``."""
KEYWORD = "tree_branches"
"""How a forward is told of a tree; transformers hands unknown keywords down to the attention function."""


@dataclass(frozen=True)
class Piece:
    """One call: these queries see these keys, all of them or each up to itself."""

    asks: slice
    known: slice
    causal: bool
    first: bool
    """Nothing was there for these queries before."""


@dataclass
class Branches:
    """What the attention layers of one forward share. ``pieces`` None: the mask says who sees whom."""

    pieces: tuple[Piece, ...] | None
    layers: set[int] = field(default_factory=set)
    """The layers that came by: proof that the tree was really used."""
    wanted: Tensor | None = None
    """The only places whose outputs are read, ``[Q]``; None: all of them are."""
    wanted_pieces: tuple[Piece, ...] | None = None
    """The pieces when they alone ask."""
    look: bool = False
    """Give the keys and values away instead of attending (by raising ``KeysAndValues``)."""
    known: tuple[Tensor, Tensor] | None = None
    """Keys and values of all tokens, when the layer itself was given the wanted ones only."""
    kept: dict[int, tuple[Tensor, Tensor]] | None = None
    """Under checkpointing, each layer's merged output and log-sums until its backward: as small as the input that is
    kept anyway, and what would take longest to compute again."""


class KeysAndValues(Exception):
    """A layer's keys and values, taken where it was about to attend."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.both = key, value


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls as attention: the tree's when the forward carries one, ``sdpa`` otherwise."""
    branches: Branches | None = kwargs.pop(KEYWORD, None)
    if branches is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if branches.look:
        raise KeysAndValues(key, value)
    branches.layers.add(id(module))
    key, value = branches.known or (key, value)
    if branches.pieces is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if kwargs.get("dropout") or kwargs.get("sliding_window") or kwargs.get("softcap") or query.shape[0] != 1:
        raise RuntimeError("tree attention knows one row, no dropout, no window and no soft cap")
    known_as, kept = id(module), branches.kept
    again = kept.pop(known_as, None) if kept is not None else None
    merged, log_sum = _TreeAttention.apply(*_one_precision(query, key, value), branches.pieces, scaling, again)
    if kept is not None and again is None:
        kept[known_as] = merged.detach(), log_sum
    return merged.transpose(1, 2).contiguous(), None


def pieces_of(nodes: Sequence[Node], wanted_Q: Tensor | None = None) -> tuple[Piece, ...]:
    """Triangles and rectangles of a tree, parents first; of ``wanted`` places alone, if given, in ascending order.

    Queries are counted among the wanted ones, which must lie side by side in each node.
    """
    made: list[Piece] = []
    asks = torch.ones(nodes[-1].end, dtype=torch.long)
    if wanted_Q is not None:
        asks = torch.zeros_like(asks).index_fill_(0, wanted_Q.cpu(), 1)
    before = [0, *asks.cumsum(0).tolist()]
    for node in nodes:
        own, below, last = before[node.start], before[node.end], before[node.reach]
        count = below - own
        start = node.start + int(asks[node.start : node.end].argmax()) if count else node.end
        if before[min(start + count, node.end)] - own != count:
            raise ValueError("the wanted places of a node do not lie side by side")
        above = _rectangle(slice(own, last), slice(node.start, start), node.root)
        first = node.root and not above
        triangle = [Piece(slice(own, below), slice(start, start + count), True, first)] if count else []
        made += above + triangle + _rectangle(slice(below, last), slice(start, node.end), first)
    return tuple(made)


def _rectangle(asks: slice, known: slice, first: bool) -> list[Piece]:
    return [Piece(asks, known, False, first)] if asks.start < asks.stop and known.start < known.stop else []


def register() -> None:
    """Tell transformers of it; without a mask function of its own it would silently drop padding masks."""
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def visible(nodes: Sequence[Node], device: torch.device | None = None) -> Tensor:
    """The same rule as a mask, bool ``[T, T]``: may token q (first axis) see token k."""
    reach_T = torch.zeros(nodes[-1].end if nodes else 0, dtype=torch.long, device=device)
    for node in nodes:
        reach_T[node.start : node.end] = node.reach
    place_T = torch.arange(len(reach_T), device=device)
    return (place_T[:, None] >= place_T) & (place_T[:, None] < reach_T)


def _one_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    # Rotary positions leave queries and keys in float32 under autocast, which sdpa would undo by itself
    kind = tensors[0].device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensors[-1].dtype
    return tuple(tensor.to(dtype) for tensor in tensors)


class _TreeAttention(torch.autograd.Function):
    """Triangles and rectangles, merged by log-sum; float32 sums whatever the inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        pieces: tuple[Piece, ...],
        scale: float | None,
        again: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        out, log_sum = again or _merged(q, k, v, pieces, scale)
        ctx.save_for_backward(q, k, v, out, log_sum)
        ctx.mark_non_differentiable(log_sum)
        ctx.pieces, ctx.scale = pieces, scale
        return out, log_sum

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, log_sum = ctx.saved_tensors
        grad_out = grads[0].to(q.dtype)
        sums = torch.promote_types(q.dtype, torch.float32)
        dq, dk, dv = (torch.zeros_like(tensor, dtype=sums) for tensor in (q, k, v))
        for piece in ctx.pieces:
            asks, known = piece.asks, piece.known
            grad, query, made, ls = (t[:, :, asks] for t in (grad_out, q, out, log_sum))
            found = _attend_backward(grad, query, k[:, :, known], v[:, :, known], made, ls, piece.causal, ctx.scale)
            for total, place, part in zip((dq, dk, dv), (asks, known, known), found, strict=True):
                total[:, :, place] += part
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype), None, None, None


def _merged(q: Tensor, k: Tensor, v: Tensor, pieces: tuple[Piece, ...], scale: float | None) -> tuple[Tensor, Tensor]:
    sums = torch.promote_types(q.dtype, torch.float32)
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3], dtype=sums).transpose(1, 2)
    log_sum = q.new_empty(q.shape[:3], dtype=sums)
    for piece in pieces:  # parents come first, so a slice is always there before something is merged into it
        asks, known = piece.asks, piece.known
        seen, ls = _attend(q[:, :, asks], k[:, :, known], v[:, :, known], piece.causal, scale)
        _merge(out[:, :, asks], log_sum[:, :, asks], seen, ls, piece.first)
    return out.to(q.dtype), log_sum


def _merge(out: Tensor, log_sum: Tensor, seen: Tensor, ls: Tensor, first: bool) -> None:
    """Put one more piece's result into a slice: a mean weighted by the exponentials of the log-sums."""
    if first:
        out.copy_(seen)
        log_sum.copy_(ls)
        return
    both = torch.logaddexp(log_sum, ls)
    out.mul_((log_sum - both).exp().unsqueeze(-1)).add_(seen * (ls - both).exp().unsqueeze(-1))
    log_sum.copy_(both)


def _attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None) -> tuple[Tensor, Tensor]:
    found = _forward_op(q)(q, k, v, 0.0, causal, scale=scale)
    return found[0], found[1]


def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, causal: bool, scale: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    aten: Any = torch.ops.aten
    if q.device.type == "cpu":
        back = aten._scaled_dot_product_flash_attention_for_cpu_backward
        return back(grad, q, k, v, out, log_sum, 0.0, causal, scale=scale)
    back = aten._scaled_dot_product_flash_attention_backward
    nothing = torch.zeros(2, dtype=torch.uint64, device=q.device)
    given = (None, None, q.shape[2], k.shape[2], 0.0, causal, nothing, nothing[:0])
    return back(grad, q, k, v, out, log_sum.contiguous(), *given, scale=scale)


def _forward_op(q: Tensor) -> Any:
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return torch.ops.aten._scaled_dot_product_flash_attention
