"""What must stop a fit, each said in one line: numbers not finite, nothing to learn, a reference that is not one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.train.scores import Scores


class NotFinite(UserError):
    """Loss or gradient became NaN or infinite; names the rows. The last good checkpoint is untouched."""


class WrongStart(RuntimeError):
    """At step 0 policy and reference should be one model, and their loss shows that they are not."""


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
    """Raises ``NotFinite``, or ``UserError`` when the first step has no gradient at all."""
    if not math.isfinite(norm):
        raise NotFinite(_not_finite("gradient", norm, ids, step))
    if step == 0 and norm == 0:
        raise UserError(
            "the gradient of the first step is exactly zero: nothing would be learnt; "
            "look at beta, at weights, label_prob and margin of the rows, and at what is frozen"
        )


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
