"""What must stop a fit, each said in one line: numbers not finite, nothing to learn, a reference that is not one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.train.scores import Scores

NOTHING = 1e-7
"""A norm that is rounding: terms that cancel leave some 1e-8, the weakest loss that was met 1e-4."""


class NotFinite(UserError):
    """Loss or gradient became NaN or infinite; names the rows. The last good checkpoint is untouched."""


class WrongStart(RuntimeError):
    """At step 0 policy and reference should be one model, and their loss shows that they are not."""


def is_mismatch(error: Exception) -> bool:
    """Whether a model refused to put features, or positions, where there are more or fewer placeholders."""
    told = str(error)
    return ("features" in told and "do not match" in told) or told.startswith("shape mismatch: value tensor")


def mismatched(error: Exception, ids: Sequence[str]) -> UserError:
    """What to say of it, with the rows."""
    told = "what is shown and its placeholders do not match"
    return UserError(f"rows {', '.join(ids)}: {told} ({str(error).splitlines()[0]}); is this the model's processor?")


def check_finite(loss: Tensor, scores: Scores, ids: Sequence[str], step: int) -> None:
    """Raises ``NotFinite`` naming the rows whose own scores are not finite, or all rows of the batch."""
    if bool(torch.isfinite(loss)):
        return
    bad_B = torch.zeros(len(ids), dtype=torch.bool, device=loss.device)
    for text in scores.values():
        for values_BT in (text.logp_BT, text.kl_BT):
            if values_BT is not None:
                bad_B |= ~torch.isfinite(text.sums(values_BT)).to(bad_B.device)
    named = [row for row, bad in zip(ids, bad_B.tolist(), strict=True) if bad]
    raise NotFinite(_not_finite("loss", float(loss), named or ids, step))


def check_gradient(norm: float, ids: Sequence[str], step: int) -> None:
    """Raises ``NotFinite``, or ``UserError`` when the first step's gradient is nothing but rounding."""
    if not math.isfinite(norm):
        raise NotFinite(_not_finite("gradient", norm, ids, step))
    if step == 0 and norm < NOTHING:
        raise UserError(
            f"the gradient of the first step is zero ({norm:.0e}): nothing would be learnt; "
            "look at beta, at weights, label_prob and margin of the rows, and at what is frozen"
        )


def gradient_norm(model: Any) -> float:
    """Of all parameters together; one number whether or not they are sharded."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norm: Any = torch.nn.utils.get_total_norm(grads) if grads else torch.zeros(())
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def check_start(loss: float, theory: float, exact: bool) -> None:
    """Raises ``WrongStart`` when the preference loss at step 0 is not what theory says of two equal models.

    ``exact``: float32 throughout; in bf16 the same sequence in another batch differs by about 1 % per token.
    """
    tolerance = 2e-3 if exact else 0.2
    if abs(loss - theory) > tolerance * max(1.0, abs(theory)):
        raise WrongStart(
            f"the preference loss at step 0 is {loss:.6g}, but two equal models give {theory:.6g}: "
            "the reference is not what the policy starts from (another file, dropout, or precision)"
        )


def _not_finite(what: str, value: float, ids: Sequence[str], step: int) -> str:
    shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    return (
        f"{what} is {value} at step {step}, rows {shown}: nothing was saved; "
        "lower learning_rate or drop these rows, the same command continues from the last good checkpoint"
    )
