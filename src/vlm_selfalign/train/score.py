"""Log-probs of answer tokens and the exact KL to the reference, without a [B, T, V] in float32.

This is the plain forward, one sequence per text; given a tree, ``score_tokens`` hands over to the engine. Only answer
positions reach the output layer: a hook on it drops all others, whatever the family does before and after (scaling,
soft-capping). Losses see float32 whatever the model computes in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor

CHUNK = 1 << 23
"""Logits turned to float32 at a time: 32 MB per copy."""


@dataclass(frozen=True)
class TokenScores:
    """Per token of sequences ``[N, T-1]``, zero where nothing is scored; position t is about token t+1."""

    logp_NT: Tensor
    kl_NT: Tensor | None = None
    stats: Mapping[str, Tensor] = field(default_factory=dict)


class Fast(Protocol):
    """A faster way to the same scores (``train.engine``)."""

    @property
    def score(self) -> Callable[..., TokenScores]:
        """Takes a model, a tree and the scored tokens, and what else ``score_tokens`` was given."""
        ...


def score_tokens(
    model: Any,
    inputs: Mapping[str, Tensor],
    answer_NT: Tensor,
    *,
    reference_logits_MV: Tensor | None = None,
    kl_sequences: int = 0,
    stats: bool = False,
    fast: tuple[Fast, Any] | None = None,
    reference: tuple[Tensor, Any] | None = None,
) -> TokenScores:
    """One forward over padded sequences, or over the tree of them.

    Args:
        model: A causal language model with or without eyes, wrapped for parallel training or not.
        inputs: What its forward takes; ``input_ids [N, T]`` among it.
        answer_NT: The tokens to score. The first token of a sequence cannot be.
        reference_logits_MV: The reference's ``answer_logits`` of the first ``kl_sequences`` sequences, for the KL.
        kl_sequences: How many sequences the reference logits cover.
        stats: Whether to add entropy, mean logit and top-1, without gradient.
        fast: The engine and the tree of these texts; then ``inputs`` is not read.
        reference: For the engine instead of logits: the reference's hidden states of the same tokens, and its output
            layer.
    """
    scored_NT = answer_NT[:, 1:].bool()
    if fast is not None:
        engine, tree = fast
        return engine.score(model, tree, scored_NT, stats=stats, kl_sequences=kl_sequences, reference=reference)
    logits_MV = answer_logits(model, inputs, answer_NT)
    ids_M = inputs["input_ids"][:, 1:][scored_NT]

    def padded(values_M: Tensor) -> Tensor:
        return values_M.new_zeros(scored_NT.shape).masked_scatter(scored_NT, values_M)

    first = int(scored_NT[:kl_sequences].sum()) if reference_logits_MV is not None else 0
    if reference_logits_MV is None or not first:
        logp_M, _ = _LogpAndKl.apply(logits_MV, ids_M, None)
        kl_M = None
    else:
        ahead_M, kl_first = _LogpAndKl.apply(logits_MV[:first], ids_M[:first], reference_logits_MV)
        behind_M, _ = _LogpAndKl.apply(logits_MV[first:], ids_M[first:], None)
        logp_M = torch.cat((ahead_M, behind_M))
        kl_M = torch.cat((kl_first, torch.zeros_like(behind_M)))
    extra = _stats(logits_MV.detach(), ids_M) if stats else {}
    return TokenScores(
        logp_NT=padded(logp_M),
        kl_NT=None if kl_M is None else padded(kl_M),
        stats={name: padded(values_M) for name, values_M in extra.items()},
    )


def answer_logits(model: Any, inputs: Mapping[str, Tensor], answer_NT: Tensor) -> Tensor:
    """Logits ``[M, V]`` that predict the M scored tokens, row by row, in the model's own precision."""
    before_NT = torch.zeros_like(answer_NT, dtype=torch.bool)
    before_NT[:, :-1] = answer_NT[:, 1:].bool()
    head = extract_model_from_parallel(model).get_output_embeddings()

    def keep(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_NTD = args[0]
        if hidden_NTD.shape[:2] != before_NT.shape:
            raise RuntimeError(f"the output layer saw {tuple(hidden_NTD.shape)} for ids of {tuple(before_NT.shape)}")
        return (hidden_NTD[before_NT.to(hidden_NTD.device)].unsqueeze(0), *args[1:])

    hook = head.register_forward_pre_hook(keep)
    try:
        return model(**inputs, use_cache=False).logits[0]
    finally:
        hook.remove()


class _LogpAndKl(torch.autograd.Function):
    """log p(id) and KL(reference || policy) per row of logits, float32 inside, chunk by chunk.

    Autograd would keep a float32 log-softmax of everything; here the backward makes it again:
    d logp / d logit = onehot - p and d KL / d logit = p - q, with p the policy's and q the reference's softmax.
    """

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, ids_M: Tensor, reference_MV: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits_MV, ids_M, reference_MV)
        logp_M = logits_MV.new_zeros(len(ids_M), dtype=torch.float32)
        kl_M = torch.zeros_like(logp_M)
        for rows in _chunks(logits_MV):
            log_p = logits_MV[rows].float().log_softmax(-1)
            logp_M[rows] = log_p.gather(1, ids_M[rows].unsqueeze(1)).squeeze(1)
            if reference_MV is not None:
                log_q = reference_MV[rows].float().log_softmax(-1)
                # 0 log 0 = 0: a token the reference forbids counts nothing, also where the policy forbids it
                kl_M[rows] = (log_q.exp() * torch.where(log_q.isneginf(), 0.0, log_q - log_p)).sum(-1)
        return logp_M, kl_M

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits_MV, ids_M, reference_MV = ctx.saved_tensors
        grad_logp_M, grad_kl_M = grads
        grad_MV = torch.empty_like(logits_MV)
        for rows in _chunks(logits_MV):
            p = logits_MV[rows].float().softmax(-1)
            grad = -p * grad_logp_M[rows, None]
            grad.scatter_add_(1, ids_M[rows].unsqueeze(1), grad_logp_M[rows, None])
            if reference_MV is not None:
                grad += (p - reference_MV[rows].float().softmax(-1)) * grad_kl_M[rows, None]
            grad_MV[rows] = grad.to(grad_MV.dtype)
        return grad_MV, None, None


def _chunks(logits_MV: Tensor) -> list[slice]:
    size = max(1, CHUNK // max(1, logits_MV.shape[-1]))
    return [slice(start, start + size) for start in range(0, len(logits_MV), size)]


@torch.no_grad()
def _stats(logits_MV: Tensor, ids_M: Tensor) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {"entropy": [], "mean_logits": [], "is_top1": []}
    for rows in _chunks(logits_MV):
        logits = logits_MV[rows].float()
        log_p = logits.log_softmax(-1)
        found["entropy"].append(-torch.where(log_p.isneginf(), 0.0, log_p.exp() * log_p).sum(-1))
        found["mean_logits"].append(logits.mean(-1))
        found["is_top1"].append((logits.argmax(-1) == ids_M[rows]).float())
    return {name: torch.cat(values) if values else logits_MV.new_zeros(0) for name, values in found.items()}
