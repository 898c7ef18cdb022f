"""How far a trained model moved from its start: KL from per-token log-probs, and canaries that should not move."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.metrics.statistics import Estimate, difference

Scored = tuple[str, Sequence[float], Sequence[float]]
"""Sample, and the log-probs (nats) of the same tokens under the policy and under its start."""


def kl_to_start(texts: Iterable[Scored], per_token: bool = True) -> Measure:
    """KL(policy || start) in nats per token (or per text), from texts that the *policy* sampled at temperature 1.

    Mean of log policy - log start: unbiased, and negative now and then on few tokens. Raises ``ValueError``
    when the two score different numbers of tokens.
    """
    items = []
    for sample, policy, start in texts:
        gaps = _gaps(sample, policy, start)
        items.append(Item(sample, math.fsum(gaps), len(gaps) if per_token else 1))
    return Measure.of("kl_to_start", items, True, "k1 per token" if per_token else "k1 per text")


def kl_low_variance(texts: Iterable[Scored]) -> Measure:
    """The same KL per token by Schulman's k3, e^-g - 1 + g with g = log policy - log start: never negative."""
    items = []
    for sample, policy, start in texts:
        gaps = _gaps(sample, policy, start)
        items.append(Item(sample, math.fsum(math.expm1(-gap) + gap for gap in gaps), len(gaps)))
    return Measure.of("kl_low_variance", items, True, "k3 per token")


def canaries(
    before: Mapping[str, Measure], after: Mapping[str, Measure], draws: int = 2000
) -> dict[str, Estimate | None]:
    """What training changed in abilities it was not meant to change: ``after - before`` by name, paired."""
    return {name: difference(before[name], after[name], draws) for name in before if name in after}


def mean_change(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> Measure:
    """A number per sample (log-prob of the chosen answer, P(end), ...): mean of ``after - before`` over shared samples.

    Raises ``KeyError`` when a sample of ``before`` is missing.
    """
    return Measure.of(name, [Item(sample, after[sample] - value, 1) for sample, value in before.items()])


def _gaps(sample: str, policy: Sequence[float], start: Sequence[float]) -> list[float]:
    if len(policy) != len(start):
        raise ValueError(f"sample {sample}: {len(policy)} tokens under the policy, {len(start)} under its start")
    return [now - was for now, was in zip(policy, start, strict=True)]
