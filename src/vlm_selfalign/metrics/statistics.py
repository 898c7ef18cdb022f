"""How sure a number is: cluster bootstrap of ratio metrics, paired and hierarchical, McNemar, Holm, Wilson.

Draws resample clusters (pictures), never items, and recompute the ratio inside every draw. All chance comes from
``seed``: the same call gives the same interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_selfalign.core.records import Record
from vlm_selfalign.metrics.items import Measure

Floats = NDArray[np.float64]

BLOCK = 4_000_000
"""Weights held at once (32 MB): draws are made in blocks of this size over the number of clusters."""


class Estimate(Record):
    """A value with its interval. ``n`` counts clusters; ``lost`` is the share of draws that had no value."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95
    lost: float = 0.0


def estimate(measure: Measure, draws: int = 2000, level: float = 0.95, seed: int = 0) -> Estimate | None:
    """The value of a measure with its bootstrap interval; None when it has no value."""
    if measure.value is None:
        return None
    clusters = measure.clusters
    num, den = measure.sums(clusters)
    return interval(measure.value, ratios(num, den, draws, seed), len(clusters), level)


def difference(
    before: Measure, after: Measure, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate | None:
    """``after - before`` by a paired cluster bootstrap; None when one of them has no value.

    Raises ``ValueError`` when the two were not measured on the same clusters: a pairing that loses samples
    would be a silent selection.
    """
    if before.value is None or after.value is None:
        return None
    clusters = shared_clusters(before, after)
    sums = (*before.sums(clusters), *after.sums(clusters))
    drawn = np.concatenate(
        [ratio(weights @ sums[2], weights @ sums[3]) - ratio(weights @ sums[0], weights @ sums[1])
         for weights in weight_blocks(len(clusters), draws, seed)]
    )  # fmt: skip
    return interval(after.value - before.value, drawn, len(clusters), level)


def shared_clusters(*measures: Measure) -> tuple[str, ...]:
    """The clusters of measures that must all have the same; raises ``ValueError`` naming one that is missing."""
    clusters = measures[0].clusters
    for other in measures[1:]:
        odd = set(clusters) ^ set(other.clusters)
        if odd:
            raise ValueError(
                f"{measures[0].name} and {other.name} differ in {len(odd)} clusters, '{min(odd)}' among them"
            )
    return clusters


def ratios(num: Floats, den: Floats, draws: int, seed: int) -> Floats:
    """Bootstrap draws [draws] of sum(num) / sum(den) over clusters; NaN where a draw has no denominator."""
    blocks = weight_blocks(len(num), draws, seed)
    return np.concatenate([ratio(weights @ num, weights @ den) for weights in blocks])


def weight_blocks(clusters: int, draws: int, seed: int) -> Iterator[Floats]:
    """How often each cluster is drawn, [block, clusters] at a time, ``draws`` rows in all."""
    chance = np.random.default_rng(seed)
    block = max(1, BLOCK // max(clusters, 1))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        yield chance.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)


def interval(value: float, drawn: Floats, n: int, level: float = 0.95) -> Estimate:
    """The percentile interval of the draws that have a value."""
    kept = drawn[~np.isnan(drawn)]
    tail = (1 - level) / 2
    low, high = np.quantile(kept, [tail, 1 - tail]) if kept.size else (np.nan, np.nan)
    return Estimate(value=value, low=float(low), high=float(high), n=n, level=level, lost=1 - kept.size / drawn.size)


def ratio(num: Floats, den: Floats) -> Floats:
    """Element by element ``num / den``; NaN where there is nothing to divide by."""
    return np.divide(num, den, out=np.full_like(num, np.nan), where=den != 0)


@dataclass(frozen=True)
class Cell:
    """One trained run: which start model, which seed of the pipeline, its measure, and the start model's own."""

    model: str
    run: str
    after: Measure
    before: Measure


def hierarchical_difference(
    cells: Sequence[Cell], draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate | None:
    """Mean over models of the mean over runs of ``after - before``; resamples models, runs within, and clusters.

    Clusters are drawn once for all cells, as far as cells share them (the same test pictures). ``n`` counts the
    cells. None when a cell has no value.
    """
    if not cells or any(cell.before.value is None or cell.after.value is None for cell in cells):
        return None
    chance = np.random.default_rng(seed)
    models: dict[str, list[int]] = {}
    for index, cell in enumerate(cells):
        models.setdefault(cell.model, []).append(index)
    values = _cell_draws(cells, draws, seed)
    drawn = np.array([values[_draw_cells(models, chance), draw].mean() for draw in range(draws)])
    plain = [cell.after.value - cell.before.value for cell in cells]  # type: ignore[operator]
    value = float(np.mean([np.mean([plain[i] for i in indices]) for indices in models.values()]))
    return interval(value, drawn, len(cells), level)


def _draw_cells(models: Mapping[str, list[int]], chance: np.random.Generator) -> list[int]:
    """Indices of the cells of one draw; every model is drawn with as many runs as the largest has, to weigh equally."""
    names = list(models)
    most = max(map(len, models.values()))
    picked = [models[names[i]] for i in chance.integers(len(names), size=len(names))]
    return [runs[i] for runs in picked for i in chance.integers(len(runs), size=most)]


def _cell_draws(cells: Sequence[Cell], draws: int, seed: int) -> Floats:
    clusters = sorted({cluster for cell in cells for cluster in shared_clusters(cell.before, cell.after)})
    sums = [(*cell.before.sums(clusters), *cell.after.sums(clusters)) for cell in cells]
    blocks = []
    for weights in weight_blocks(len(clusters), draws, seed + 1):
        rows = [ratio(weights @ a1, weights @ a2) - ratio(weights @ b1, weights @ b2) for b1, b2, a1, a2 in sums]
        blocks.append(np.stack(rows))
    return np.concatenate(blocks, axis=1)


class McNemar(Record):
    """Exact McNemar test of paired hits: how many were fixed, how many broken, and the two-sided p-value."""

    fixed: int
    broken: int
    p: float


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """Whether answers to the same questions became right more often than wrong (exact binomial)."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    pairs = list(zip(before, after, strict=True))
    fixed = sum(not was and now for was, now in pairs)
    broken = sum(was and not now for was, now in pairs)
    p = exact([[0, fixed], [broken, 0]], exact=True).pvalue if fixed + broken else 1.0  # type: ignore[attr-defined]
    return McNemar(fixed=fixed, broken=broken, p=float(p))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm-adjusted p-values of a family of tests, by name."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    adjusted: Any = multipletests(list(p_values.values()), method="holm")[1]
    return {name: float(p) for name, p in zip(p_values, adjusted, strict=True)}


def wilson(hits: int, n: int, level: float = 0.95) -> Estimate:
    """A proportion with Wilson's interval. Raises ``ValueError`` for ``n == 0``."""
    from statsmodels.stats.proportion import proportion_confint

    if n <= 0:
        raise ValueError("a proportion of nothing has no interval")
    bounds: Any = proportion_confint(hits, n, alpha=1 - level, method="wilson")
    return Estimate(value=hits / n, low=float(bounds[0]), high=float(bounds[1]), n=n, level=level)
