import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.metrics.envelope import Point, envelope_difference, lower_envelope
from vlm_selfalign.metrics.items import Item, Measure

SIZE = 200


def point(name, chair, recall):
    """A point whose every picture has the same CHAIR_i and recall, so that draws do not vary."""
    clusters = [f"s{i}" for i in range(SIZE)]
    return Point(
        name,
        Measure.of("chair_i", [Item(c, chair, 1) for c in clusters]),
        Measure.of("recall", [Item(c, recall, 1) for c in clusters]),
    )


def noisy(name, chair, recall, seed):
    """The same with pictures that differ."""
    chance = np.random.default_rng(seed)
    clusters = [f"s{i}" for i in range(SIZE)]
    return Point(
        name,
        Measure.of("chair_i", [Item(c, float(chance.binomial(4, chair)), 4) for c in clusters]),
        Measure.of("recall", [Item(c, float(chance.binomial(4, recall)), 4) for c in clusters]),
    )


def at(points, recall):
    chair, recalls = np.array(points, dtype=float).T[:, :, None]
    return lower_envelope(chair, recalls, np.array([float(recall)]))[0]


def test_between_two_points_it_is_the_straight_line():
    assert at([(0.1, 0.8), (0.2, 1.0)], 0.9) == pytest.approx(0.15)


def test_a_point_above_the_line_changes_nothing_and_one_below_does():
    assert at([(0.1, 0.8), (0.2, 1.0), (0.3, 0.9)], 0.9) == pytest.approx(0.15)
    assert at([(0.1, 0.8), (0.2, 1.0), (0.05, 0.9)], 0.9) == pytest.approx(0.05)


def test_it_does_not_reach_beyond_the_points():
    assert np.isnan(at([(0.1, 0.8), (0.2, 0.9)], 0.95))
    assert np.isnan(at([(0.1, 0.8), (0.2, 0.9)], 0.75))
    assert at([(0.1, 0.8), (0.3, 0.8)], 0.8) == pytest.approx(0.1)


fractions = st.integers(0, 100).map(lambda n: n / 100)


@given(st.lists(st.tuples(fractions, fractions), min_size=1, max_size=6), fractions)
def test_it_lies_below_every_interpolation_and_more_points_never_raise_it(points, recall):
    whole, fewer = at(points, recall), at(points[:-1] or points, recall)
    if not np.isnan(fewer):
        assert whole <= fewer + 1e-12
    ordered = sorted((r, c) for c, r in points)
    if ordered[0][0] <= recall <= ordered[-1][0] and len({r for r, _ in ordered}) == len(ordered):
        assert whole <= np.interp(recall, *zip(*ordered, strict=True)) + 1e-12


def test_the_difference_by_hand():
    controls = [point("greedy", 0.10, 1.0), point("cut", 0.06, 0.8)]
    found = envelope_difference(controls, point("recipe", 0.03, 0.9), draws=100)
    assert found.envelope == pytest.approx(0.08)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(-0.05)
    assert (found.difference.low, found.difference.high) == pytest.approx((-0.05, -0.05))


def test_a_control_does_not_differ_from_its_own_envelope():
    controls = [noisy("greedy", 0.10, 0.95, 1), noisy("hot", 0.2, 0.85, 2), noisy("cut", 0.08, 0.7, 3)]
    found = envelope_difference(controls, controls[0], draws=300)
    assert found.difference is not None
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx((0, 0, 0))


def test_no_draw_of_a_control_is_below_the_envelope():
    controls = [noisy("greedy", 0.10, 0.95, 1), noisy("cut", 0.08, 0.7, 3), noisy("hot", 0.2, 0.85, 2)]
    found = envelope_difference(controls, controls[2], draws=300)
    assert found.difference is not None
    assert 0 <= found.difference.low < found.difference.value


def test_recall_out_of_range_has_no_value_but_a_reason():
    found = envelope_difference([point("a", 0.1, 0.8), point("b", 0.2, 0.9)], point("recipe", 0.0, 0.95))
    assert found.difference is None
    assert "0.950 is outside the controls' 0.800 to 0.900" in found.reason


def test_too_many_draws_out_of_range_have_no_interval():
    found = envelope_difference([noisy("a", 0.1, 0.8, 1), noisy("b", 0.2, 0.9, 2)], noisy("recipe", 0.0, 0.893, 3))
    assert found.difference is None
    assert "draws leave" in found.reason


def test_without_controls_there_is_nothing_to_say():
    assert envelope_difference([], point("recipe", 0, 1)).reason == "no control points"
