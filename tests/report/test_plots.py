"""Curves are smoothed and thinned without moving them; the envelope is what two decodings mix to."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from vlm_selfalign.report.folder import TrainingLog
from vlm_selfalign.report.numbers import MINUS
from vlm_selfalign.report.plots import butterfly, running_mean
from vlm_selfalign.report.tradeoff import lower_envelope
from vlm_selfalign.report.training import series, thinned, training_of

shares = st.integers(0, 1000).map(lambda n: n / 1000)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 20))
def test_running_mean(values: list[float], window: int) -> None:
    expected = [fmean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]
    assert all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(running_mean(values, window), expected, strict=True))


@given(st.lists(st.tuples(shares, shares), min_size=2, max_size=12))
def test_envelope_is_the_least_of_all_segments(points: list[tuple[float, float]]) -> None:
    hull = lower_envelope(points)
    for x in {x for x, _ in points}:
        least = min(_on(a, b, x) for a in points for b in points if min(a[0], b[0]) <= x <= max(a[0], b[0]))
        drawn = min(_on(a, b, x) for a in hull for b in hull if min(a[0], b[0]) <= x <= max(a[0], b[0]))
        assert math.isclose(drawn, least, abs_tol=1e-9)
    assert all(left[0] < right[0] for left, right in pairwise(hull))


def _on(a: tuple[float, float], b: tuple[float, float], x: float) -> float:
    return min(a[1], b[1]) if a[0] == b[0] else a[1] + (x - a[0]) / (b[0] - a[0]) * (b[1] - a[1])


def test_long_logs_are_averaged_over_equal_stretches() -> None:
    steps, means = thinned(list(range(1000)), [float(v) for v in range(1000)], most=100)
    assert len(steps) == 100 and steps == means and means[0] == 4.5


def test_what_is_not_finite_is_left_out() -> None:
    lines = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": math.nan}, {"step": 3}, {"step": 4, "loss": 0.5}]
    assert series(lines, "loss") == ([1.0, 4.0], [1.0, 0.5])


def test_likelihood_displacement_is_said() -> None:
    falling = [{"step": i, "loss": 0.5, "logps/chosen": -10 - i / 10} for i in range(1, 51)]
    (note,) = training_of(TrainingLog(0, "policy", falling, published=True)).notes
    assert "less likely" in note and "-10.3 to -14.8" in note.replace(MINUS, "-")
    rising = [{**line, "logps/chosen": -line["logps/chosen"] - 30} for line in falling]
    assert training_of(TrainingLog(0, "policy", rising, published=True)).notes == ()


def test_names_in_plots_are_escaped() -> None:
    plot = butterfly("x", "<about>", [("<b>&", 1, 2), ("$\\frac{a}{b}$\ud800\x00", 3, 4)])
    assert "<b>" not in plot and str(escape("<b>&")) in plot and "<about>" not in plot and r"$\frac{a}{b}$" in plot
