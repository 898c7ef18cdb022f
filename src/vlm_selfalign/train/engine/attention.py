"""Attention over a tree without a mask: every node sees itself causally, and each node is seen by all below it.

In the packed row a node is a run of tokens and its descendants are the run behind it, so what may be seen is a set of
triangles (a node and itself) and rectangles (a node's descendants and the node). Each is one call of torch's fused
attention on slices, with nothing computed that is thrown away, and their results are merged by their log-sums
(Dao et al. 2022, FlashAttention; Liu et al. 2023, ring attention). The backward of a piece only needs the merged
output and log-sum, so neither a mask nor a second copy of the prefix's keys is ever held.

Shapes: B = 1, H heads, T tokens, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from vlm_selfalign.train.engine.tree import Node

NAME = "vlm_selfalign_tree"
"""What the language model's attention is called while the engine has it; without a tree it is plain ``sdpa``."""
KEYWORD = "tree_branches"
"""How a forward is told of a tree; transformers hands unknown keywords down to the attention function."""


@dataclass
class Branches:
    """What the attention layers of one forward share. ``nodes`` None: the mask says who sees whom."""

    nodes: tuple[Node, ...] | None
    layers: set[int] = field(default_factory=set)
    """The layers that came by: proof that the tree was really used."""


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
    if branches is None or branches.nodes is None:
        if branches is not None:
            branches.layers.add(id(module))
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if kwargs.get("dropout") or kwargs.get("sliding_window") or kwargs.get("softcap") or query.shape[0] != 1:
        raise RuntimeError("tree attention knows one row, no dropout, no window and no soft cap")
    branches.layers.add(id(module))
    query, key, value = _one_precision(query, key, value)
    groups = query.shape[1] // key.shape[1]
    merged = _TreeAttention.apply(query, repeat_kv(key, groups), repeat_kv(value, groups), branches.nodes, scaling)
    return merged.transpose(1, 2).contiguous(), None


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
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, nodes: tuple[Node, ...], scale: float | None) -> Tensor:
        sums = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3], dtype=sums).transpose(1, 2)
        log_sum = q.new_empty(q.shape[:3], dtype=sums)
        for node in nodes:  # parents come first, so a slice is always there before something is merged into it
            own, below = slice(node.start, node.end), slice(node.end, node.reach)
            seen, ls = _attend(q[:, :, own], k[:, :, own], v[:, :, own], True, scale)
            _merge(out[:, :, own], log_sum[:, :, own], seen, ls, first=node.root)
            if node.end < node.reach:
                seen, ls = _attend(q[:, :, below], k[:, :, own], v[:, :, own], False, scale)
                _merge(out[:, :, below], log_sum[:, :, below], seen, ls, first=node.root)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, log_sum)
        ctx.nodes, ctx.scale = nodes, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, log_sum = ctx.saved_tensors
        grad_out = grads[0].to(q.dtype)
        sums = torch.promote_types(q.dtype, torch.float32)
        dq, dk, dv = (torch.zeros_like(tensor, dtype=sums) for tensor in (q, k, v))
        for node in ctx.nodes:
            own = slice(node.start, node.end)
            pieces = [(own, True)] + ([(slice(node.end, node.reach), False)] if node.end < node.reach else [])
            for rows, causal in pieces:
                grad, asks, made, ls = (t[:, :, rows] for t in (grad_out, q, out, log_sum))
                found = _attend_backward(grad, asks, k[:, :, own], v[:, :, own], made, ls, causal, ctx.scale)
                for total, place, part in zip((dq, dk, dv), (rows, own, own), found, strict=True):
                    total[:, :, place] += part
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype), None, None


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
