"""The control that training must beat: what the untrained model reaches at the same recall by decoding alone.

Every way of decoding the untrained model (a temperature, a shorter text, ...) is a point of CHAIR_i against
recall. At the recipe's recall the control is the *lower* envelope of these points: the least value of any straight
line between two of them. One temperature curve alone would be a straw man.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_selfalign.core.records import Record
from vlm_selfalign.metrics.items import Measure
from vlm_selfalign.metrics.statistics import Estimate, Floats, interval, ratio, shared_clusters, weight_blocks

MOST_LOST = 0.05
"""If more draws than this leave the range of the controls, an interval of the others would be a selection."""


@dataclass(frozen=True)
class Point:
    """One way of writing texts: CHAIR_i and recall of the same texts."""

    name: str
    chair: Measure
    recall: Measure


class EnvelopeDifference(Record):
    """Recipe minus envelope at the recipe's recall, or None and the reason; and the envelope's value there."""

    difference: Estimate | None
    envelope: float | None
    reason: str = ""


def envelope_difference(
    controls: Sequence[Point], recipe: Point, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> EnvelopeDifference:
    """CHAIR_i of the recipe minus the lower envelope of the controls at its recall; below 0 beats them.

    The envelope is recomputed in every bootstrap draw of the pictures, which all points must share. Never
    extrapolated: when the recipe's recall is outside the controls' there is no difference, and the reason says so.
    """
    points = [recipe, *controls]
    clusters = shared_clusters(*(m for point in points for m in (point.chair, point.recall)))
    empty = [point.name for point in points if point.chair.value is None or point.recall.value is None]
    if empty or not controls:
        return _nothing(f"no value for {', '.join(empty)}" if empty else "no control points")
    whole = _values(points, clusters, np.ones((1, len(clusters))))
    recalls = [point.recall.value or 0.0 for point in controls]
    value = float(lower_envelope(whole[0, 1:], whole[1, 1:], whole[1, 0])[0])
    if np.isnan(value):
        seen = f"{min(recalls):.3f} to {max(recalls):.3f}"
        return _nothing(f"recall {recipe.recall.value:.3f} is outside the controls' {seen}; no extrapolation")
    drawn = np.concatenate([_drawn(points, clusters, block) for block in weight_blocks(len(clusters), draws, seed)])
    found = interval(float(whole[0, 0, 0]) - value, drawn, len(clusters), level)
    if found.lost > MOST_LOST:
        reason = f"{found.lost:.0%} of the draws leave the controls' range of recall; add control points beyond it"
        return EnvelopeDifference(difference=None, envelope=value, reason=reason)
    return EnvelopeDifference(difference=found, envelope=value)


def lower_envelope(chair_PD: Floats, recall_PD: Floats, at_D: Floats) -> Floats:
    """The least CHAIR_i on any segment between two points, at recall ``at_D``; NaN outside the points' recalls.

    P points, D draws. Points of equal recall count by their own value there.
    """
    first, second = np.triu_indices(len(chair_PD))
    x0_SD, x1_SD, y0_SD, y1_SD = recall_PD[first], recall_PD[second], chair_PD[first], chair_PD[second]
    span_SD = x1_SD - x0_SD
    share_SD = np.divide(at_D - x0_SD, span_SD, out=np.zeros_like(span_SD), where=span_SD != 0)
    value_SD = np.where(span_SD != 0, y0_SD + share_SD * (y1_SD - y0_SD), np.minimum(y0_SD, y1_SD))
    inside_SD = (np.minimum(x0_SD, x1_SD) <= at_D) & (at_D <= np.maximum(x0_SD, x1_SD))
    least_D = np.where(inside_SD, value_SD, np.inf).min(axis=0)
    return np.where(np.isfinite(least_D), least_D, np.nan)


def _values(points: Sequence[Point], clusters: Sequence[str], weights_DC: Floats) -> Floats:
    """CHAIR_i and recall of every point in every draw, [2, points, draws]."""
    rows = [[ratio(*(weights_DC @ sums for sums in measure.sums(clusters))) for measure in measures]
            for measures in zip(*((point.chair, point.recall) for point in points), strict=True)]  # fmt: skip
    return np.array(rows)


def _drawn(points: Sequence[Point], clusters: Sequence[str], weights_DC: Floats) -> Floats:
    values = _values(points, clusters, weights_DC)
    return values[0, 0] - lower_envelope(values[0, 1:], values[1, 1:], values[1, 0])


def _nothing(reason: str) -> EnvelopeDifference:
    return EnvelopeDifference(difference=None, envelope=None, reason=reason)
