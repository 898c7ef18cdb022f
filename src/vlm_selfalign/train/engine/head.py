"""Log-probs and exact KL straight from hidden states: the ``[M, V]`` logits are never held, only pieces of them.

Per pair of a hidden state h and the token that should follow, with p = softmax(h W^T + b) of the policy and q the same
of the reference: log p(token), KL(q || p) over the whole vocabulary (the exact penalty of Sarkar et al. 2025, RRPO) and
what TRL logs. The backward makes each piece of logits again: d log p / d logit = onehot - p, d KL / d logit = p - q.

Shapes: M pairs, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

PIECE = 1 << 22
"""Logits held at a time: 16 MB in float32."""
STATS: tuple[str, ...] = ("entropy", "mean_logits", "is_top1")


@dataclass(frozen=True)
class HeadScores:
    """Per pair ``[M]``, float32; ``stats`` without gradient."""

    logp_M: Tensor
    kl_M: Tensor | None
    stats: dict[str, Tensor]


def score_hidden(
    head: nn.Module,
    hidden_MD: Tensor,
    next_M: Tensor,
    stats: bool = False,
    reference: tuple[Tensor, nn.Module] | None = None,
) -> HeadScores:
    """Score pairs; ``reference`` is the reference's hidden states at the same M places and its own output layer."""
    weight, bias = _whole(head)
    other = _Reference.of(*reference) if reference is not None else None
    logp_M, kl_M, *more = _Scored.apply(hidden_MD, weight, bias, next_M, other, stats, _operands(hidden_MD))
    found = dict(zip(STATS, more, strict=True)) if stats else {}
    return HeadScores(logp_M, kl_M if reference is not None else None, found)


def is_plain(head: nn.Module) -> bool:
    """Whether an output layer is no more than a matrix, whole or sharded (FSDP2): no adapter on it, not quantised."""
    return type(head) is nn.Linear or (isinstance(head, nn.Linear) and type(head).__name__ == "FSDPLinear")


@dataclass(frozen=True)
class _Reference:
    """Where q comes from; nothing learns here."""

    hidden_MD: Tensor
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, hidden_MD: Tensor, head: nn.Module) -> _Reference:
        weight, bias = _whole(head)
        return cls(hidden_MD.detach().to(weight.device), weight.detach(), None if bias is None else bias.detach())

    def logits(self, rows: slice, dtype: torch.dtype) -> Tensor:
        return _logits(self.hidden_MD[rows], self.weight, self.bias, dtype)


class _Scored(torch.autograd.Function):
    """Piece by piece; see the module."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, w: Tensor, b: Tensor | None, ids: Tensor, other: _Reference | None, stats: bool, dtype: Any
    ) -> Any:
        ctx.save_for_backward(h, w, b, ids)
        ctx.other, ctx.dtype = other, dtype
        made = [torch.zeros(len(ids), dtype=_sums(h), device=h.device) for _ in range(5)]
        logp, kl, entropy, mean, top = made
        for rows, logits, log_p in _pieces(h, w, b, dtype):
            logp[rows] = log_p.gather(1, ids[rows].unsqueeze(1)).squeeze(1)
            if other is not None:
                log_q = other.logits(rows, dtype).log_softmax(-1)
                # 0 log 0 = 0: a token the reference forbids counts nothing, also where the policy forbids it
                kl[rows] = (log_q.exp() * torch.where(log_q.isneginf(), 0.0, log_q - log_p)).sum(-1)
            if stats:
                entropy[rows] = -torch.where(log_p.isneginf(), 0.0, log_p.exp() * log_p).sum(-1)
                mean[rows] = logits.mean(-1)
                top[rows] = (logits.argmax(-1) == ids[rows]).to(top.dtype)
        ctx.mark_non_differentiable(entropy, mean, top)
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        h, w, b, ids = ctx.saved_tensors
        g_logp, g_kl = grads[0], grads[1]
        dh = torch.zeros_like(h)
        dw = torch.zeros_like(w, dtype=_sums(h)) if ctx.needs_input_grad[1] else None
        db = torch.zeros_like(b, dtype=_sums(h)) if b is not None and ctx.needs_input_grad[2] else None
        for rows, _, log_p in _pieces(h, w, b, ctx.dtype):
            p = log_p.exp_()
            grad = p * -g_logp[rows, None]
            grad.scatter_add_(1, ids[rows].unsqueeze(1), g_logp[rows, None])
            if ctx.other is not None:
                grad += (p - ctx.other.logits(rows, ctx.dtype).softmax(-1)) * g_kl[rows, None]
            small = grad.to(ctx.dtype)
            dh[rows] = (small @ w.to(ctx.dtype)).to(dh.dtype)
            if dw is not None:
                dw += small.t() @ h[rows].to(ctx.dtype)
            if db is not None:
                db += grad.sum(0)
        return dh, _as(dw, w), _as(db, b), None, None, None, None


def _as(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    return total if total is None or part is None else total.to(part.dtype)


def _pieces(h: Tensor, w: Tensor, b: Tensor | None, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor]]:
    size = max(1, PIECE // len(w))
    for start in range(0, len(h), size):
        rows = slice(start, start + size)
        logits = _logits(h[rows], w, b, dtype)
        yield rows, logits, logits.log_softmax(-1)


def _logits(h: Tensor, w: Tensor, b: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Products of ``dtype`` operands, summed and returned in float32: rounding logits to bf16 would cost digits."""
    sums = _sums(h)
    h, w = h.to(dtype), w.to(dtype)
    if dtype == sums:
        made = h @ w.t()
    elif h.device.type == "cuda":
        made = torch.mm(h, w.t(), out_dtype=sums)
    else:
        made = h.to(sums) @ w.to(sums).t()
    return made if b is None else made + b.to(sums)


def _sums(h: Tensor) -> torch.dtype:
    return torch.promote_types(h.dtype, torch.float32)


def _operands(h: Tensor) -> torch.dtype:
    kind = h.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else h.dtype


def _whole(head: nn.Module) -> tuple[Tensor, Tensor | None]:
    parts = [getattr(head, name, None) for name in ("weight", "bias")]
    weight, bias = (part.full_tensor() if isinstance(part, DTensor) else part for part in parts)  # sharded by FSDP2
    assert weight is not None
    return weight, bias
