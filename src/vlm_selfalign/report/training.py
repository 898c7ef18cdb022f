"""Training curves of each fit: the loss and its parts, margin, log-probs of both sides, KL, gradient norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from vlm_selfalign.report.folder import TrainingLog
from vlm_selfalign.report.numbers import MINUS
from vlm_selfalign.report.plots import AFTER, CHOSEN, FILTER, INK, REJECTED, THIRD, Curves, small_multiples

POINTS = 400
"""Most points of a curve; longer logs are averaged over equal stretches."""

PANELS: tuple[tuple[str, dict[str, tuple[str, str]]], ...] = (
    (
        "loss",
        {
            "loss": ("sum", INK),
            "loss/preference": ("preference", AFTER),
            "loss/kl": ("KL", THIRD),
            "loss/nll": ("NLL", FILTER),
        },
    ),
    ("reward margin", {"rewards/margins": ("margin", AFTER)}),
    (
        "log-prob of the answers, nats",
        {
            "logps/chosen": ("chosen", CHOSEN),
            "logps/rejected": ("rejected", REJECTED),
            "logps/answer": ("answer", AFTER),
        },
    ),
    ("pairs ranked right", {"rewards/accuracies": ("share", AFTER)}),
    (
        "KL to the reference, nats",
        {"kl/chosen": ("chosen", CHOSEN), "kl/rejected": ("rejected", REJECTED), "kl/answer": ("answer", AFTER)},
    ),
    ("gradient norm", {"grad_norm": ("norm", INK)}),
)
"""Title, and (label, colour) by what a log calls it; a panel without any of its curves is left out."""


@dataclass(frozen=True)
class Training:
    """One fit as the page shows it."""

    title: str
    steps: int
    plot: Markup | None
    notes: tuple[str, ...]


def training_of(log: TrainingLog) -> Training:
    """Curves and what stands out in them."""
    title = f"round {log.round}, {log.role}"
    panels = [(name, curves) for name, keys in PANELS if (curves := _curves(log.lines, keys))]
    shape = f"training-{log.round}-{log.role}"
    plot = small_multiples(shape, f"Training curves of {title}", panels) if panels else None
    steps = int(log.lines[-1].get("step", len(log.lines)))
    unfinished = () if log.published else ("Still training, or stopped on the way.",)
    return Training(title, steps, plot, (*unfinished, *_displacement(log.lines)))


def _curves(lines: Sequence[dict[str, float]], keys: dict[str, tuple[str, str]]) -> Curves:
    found = []
    for key, (label, colour) in keys.items():
        steps, values = series(lines, key)
        # "preference" alone is the sum once more.
        if values and not (
            key == "loss/preference" and not any({"loss/kl", "loss/nll"} & line.keys() for line in lines)
        ):
            found.append((label, *thinned(steps, values), colour))
    return found


def series(lines: Sequence[dict[str, float]], key: str) -> tuple[list[float], list[float]]:
    """Steps and finite values of one key."""
    found = [(line.get("step", place), line[key]) for place, line in enumerate(lines, 1) if key in line]
    finite = [(float(step), float(v)) for step, v in found if isinstance(v, (int, float)) and math.isfinite(v)]
    return [step for step, _ in finite], [value for _, value in finite]


def thinned(x: Sequence[float], y: Sequence[float], most: int = POINTS) -> tuple[list[float], list[float]]:
    """At most ``most`` points: the means of equal stretches."""
    size = -(-len(x) // most)
    starts = range(0, len(x), max(1, size))
    return [fmean(x[at : at + size]) for at in starts], [fmean(y[at : at + size]) for at in starts]


def _displacement(lines: Sequence[dict[str, float]]) -> tuple[str, ...]:
    """Likelihood displacement: the margin grows although the chosen answers themselves become less likely."""
    _, values = series(lines, "logps/chosen")
    tenth = len(values) // 10
    if tenth < 1:
        return ()
    first, last = fmean(values[:tenth]), fmean(values[-tenth:])
    if last > first - 0.05 * abs(first):
        return ()
    said = f"{first:.1f} to {last:.1f} nats".replace("-", MINUS)
    return (f"The chosen answers became less likely, from {said} a pair: both sides are pushed down.",)
