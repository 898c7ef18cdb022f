"""The fast forward must earn its place: on the first texts of a fit it is compared with the plain one.

A wrong mask or position raises nothing and still learns something, so before training log-probs and gradients of a few
texts are computed both ways. If they differ, or the model cannot take a tree, the fit goes the plain way and says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm_selfalign.models.answer_adapters import Unplaced
from vlm_selfalign.train.engine.fitness import Unfit
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.score import TokenScores, score_tokens
from vlm_selfalign.train.texts import Text, Texts

logger = logging.getLogger(__name__)

EXACT = (2e-4, 1e-3)
"""In float32: the largest error of a log-prob relative to the largest log-prob, and of the gradient by norm. Rounding
gives some 1e-6, the slightest leak between branches more than 1e-2."""
ROUNDED = (3e-2, 0.3)
"""In 16 bits, where two orders of the same sums differ in the third digit."""

Marked = Callable[[Sequence[Text]], Mapping[str, Any]]


def settle(
    model: Any,
    maker: Texts,
    groups: Sequence[Sequence[Text]],
    plain: Marked,
    features: Path | None,
    bf16: bool = False,
    engine: type[Engine] = Engine,
) -> tuple[Engine, Planner] | str:
    """The fast forward for a model, checked on groups of texts; or why it cannot be used.

    Args:
        model: What learns.
        maker: Made the texts.
        groups: Texts that are scored together, such as the two of a pair.
        plain: The plain forward's inputs of texts (``Collator.plain``).
        features: Where features of pictures are kept beyond memory.
        bf16: Whether training computes under bf16 autocast.
        engine: Which forward.
    """
    fast, planner = engine(Vision(features)), Planner(model, maker)
    for texts in groups:
        try:
            reason = disagreement(fast, planner, model, texts, plain, bf16)
        except torch.OutOfMemoryError:
            logger.warning("the plain forward of one row does not fit into memory: the fast one goes unchecked")
            reason = None
        if reason:
            return reason
    return fast, planner


def disagreement(
    engine: Engine, planner: Planner, model: Any, texts: Sequence[Text], plain: Marked, bf16: bool = False
) -> str | None:
    """Why the tree cannot be used for these texts, or None when it gives what the plain forward gives.

    Args:
        engine: The fast forward.
        planner: Plants its trees.
        model: What learns, not yet wrapped for parallel training.
        texts: A few, among them one with pictures if there is any.
        plain: The plain forward's inputs of texts (``Collator.plain``).
        bf16: Whether training computes under bf16 autocast.
    """
    device = next(model.parameters()).device
    batch = plain(texts)
    inputs, answer_NT = {k: v.to(device) for k, v in batch["inputs"].items()}, batch["answer"].to(device)
    cast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    half = bf16 or model.dtype in (torch.bfloat16, torch.float16)
    was_training = model.training
    model.train()  # dropout is silenced in a learner, and some layers behave otherwise only here
    try:
        with cast:
            fast = _scored(model, lambda: engine.score(model, planner(texts), answer_NT[:, 1:]))
            slow = _scored(model, lambda: score_tokens(model, inputs, answer_NT))
    except (Unfit, Unplaced) as reason:
        return str(reason)
    finally:
        model.train(was_training)
    return _compared(fast, slow, *(ROUNDED if half else EXACT))


def _scored(model: Any, score: Callable[[], TokenScores]) -> tuple[Tensor, list[Tensor | None]]:
    logp_NT = score().logp_NT
    learns = [p for p in model.parameters() if p.requires_grad]
    # Alternating signs, as chosen against rejected: a sum of all would hide an error that moves between texts
    sign_N = torch.tensor([(-1.0) ** place for place in range(len(logp_NT))], device=logp_NT.device)
    grads = torch.autograd.grad((logp_NT.sum(1) * sign_N).sum(), learns, allow_unused=True)
    return logp_NT.detach(), list(grads)


def _compared(fast: tuple[Tensor, Any], plain: tuple[Tensor, Any], logp_limit: float, grad_limit: float) -> str | None:
    error = float((fast[0] - plain[0]).abs().max() / plain[0].abs().max().clamp(min=1e-6))
    if not error <= logp_limit:
        return f"its log-probs differ from the plain forward's by {error:.1e}"
    if any((one is None) != (other is None) for one, other in zip(fast[1], plain[1], strict=True)):
        return "it gives gradients to other parameters than the plain forward"
    pairs = [(one, other) for one, other in zip(fast[1], plain[1], strict=True) if one is not None]
    apart = sum(float((one.float() - other.float()).square().sum()) for one, other in pairs) ** 0.5
    size = sum(float(other.float().square().sum()) for _, other in pairs) ** 0.5
    if not apart <= grad_limit * max(size, 1e-12):
        return f"its gradients differ from the plain forward's by {apart / max(size, 1e-12):.1e}"
    return None
