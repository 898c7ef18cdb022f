import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.metrics.statistics import (
    Cell,
    difference,
    estimate,
    hierarchical_difference,
    holm,
    mcnemar,
    wilson,
)

items = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.integers(0, 3)).map(
        lambda row: Item(row[0], min(row[1:]), max(row[1:]))
    ),
    min_size=1,
    max_size=20,
)


def bernoulli(rate, clusters=400, each=2, seed=0, name="m"):
    chance = np.random.default_rng(seed)
    return Measure.of(
        name, [Item(f"s{i}", float(chance.random() < rate), 1) for i in range(clusters) for _ in range(each)]
    )


@settings(max_examples=30)
@given(items)
def test_a_run_does_not_differ_from_itself(items):
    measure = Measure.of("m", items)
    found = difference(measure, measure, draws=200)
    if measure.value is None:
        assert found is None
    else:
        assert found is not None
        assert (found.value, found.low, found.high) == (0, 0, 0)


@settings(max_examples=30)
@given(items, st.integers())
def test_the_order_of_items_does_not_matter(items, seed):
    shuffled = random.Random(seed).sample(items, len(items))
    assert estimate(Measure.of("m", items), draws=100) == estimate(Measure.of("m", shuffled), draws=100)


def test_the_interval_of_a_proportion_is_near_wilsons():
    measure = bernoulli(0.3, clusters=800, each=1)
    found, exact = estimate(measure), wilson(int(measure.num), 800)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.006)


def test_repeating_every_item_of_a_cluster_tells_nothing_new():
    once = bernoulli(0.3, each=1)
    often = Measure.of("m", [item for item in once.items for _ in range(10)])
    assert estimate(once) == estimate(often)


def test_coverage_of_the_interval():
    found = [estimate(bernoulli(0.2, clusters=150, each=1, seed=seed), draws=400) for seed in range(200)]
    assert 0.90 <= np.mean([one.low <= 0.2 <= one.high for one in found]) <= 0.99


def test_pairing_narrows_the_difference():
    before = bernoulli(0.3)
    better = Measure.of("m", [item if i % 20 else Item(item.cluster, 0, 1) for i, item in enumerate(before.items)])
    paired, alone = difference(before, better), estimate(before)
    assert paired is not None
    assert alone is not None
    assert paired.value == pytest.approx(better.value - before.value)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_different_clusters_are_no_pair():
    with pytest.raises(ValueError, match="'b' among them"):
        difference(Measure.of("m", [Item("a", 1, 1)]), Measure.of("n", [Item("a", 1, 1), Item("b", 0, 1)]))


def test_draws_without_a_denominator_are_counted():
    found = estimate(Measure.of("m", [Item("a", 1, 1), Item("b", 0, 0)]), draws=4000)
    assert found is not None
    assert found.value == found.low == found.high == 1
    assert found.lost == pytest.approx(0.25, abs=0.03)


def test_ten_thousand_draws_of_two_thousand_clusters_take_seconds():
    measure = bernoulli(0.1, clusters=2000)
    start = time.process_time()
    difference(measure, measure, draws=10_000)
    assert time.process_time() - start < 15


def test_the_hierarchical_interval_is_wider_where_models_differ():
    def cells(gaps):
        return [
            Cell(f"m{m}", f"r{r}", after=bernoulli(0.3 - gap, seed=3), before=bernoulli(0.3, seed=3))
            for m, gap in enumerate(gaps)
            for r in range(3)
        ]

    same, apart = hierarchical_difference(cells([0.1] * 3)), hierarchical_difference(cells([0.0, 0.1, 0.2]))
    assert same is not None
    assert apart is not None
    assert same.value == pytest.approx(-0.1, abs=0.03)
    assert apart.high - apart.low > 2 * (same.high - same.low)
    assert same.n == 9


def test_one_cell_is_the_plain_difference():
    before, after = bernoulli(0.3, seed=1), bernoulli(0.2, seed=2)
    plain, cell = difference(before, after), hierarchical_difference([Cell("m", "r", after, before)])
    assert plain is not None
    assert cell is not None
    assert cell.value == pytest.approx(plain.value)
    assert (cell.low, cell.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_models_count_equally_however_many_runs_they_have():
    before = bernoulli(0.5, seed=1)
    zero, one = (Measure.of("m", [Item(i.cluster, hit, 1) for i in before.items]) for hit in (0, 1))
    cells = [
        Cell("a", "1", zero, zero),
        Cell("b", "1", one, zero),
        Cell("b", "2", one, zero),
        Cell("b", "3", one, zero),
    ]
    found = hierarchical_difference(cells)
    assert found is not None
    assert found.value == 0.5
    assert (found.low, found.high) == (0, 1)


def test_mcnemar_is_the_exact_binomial():
    before, after = [False] * 6 + [True] * 4, [True] * 6 + [False] + [True] * 3
    found = mcnemar(before, after)
    assert (found.fixed, found.broken) == (6, 1)
    assert found.p == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar([True], [True]).p == 1


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}


def test_wilson_by_hand():
    found = wilson(0, 10)
    assert found.low == pytest.approx(0, abs=1e-12)
    assert found.high == pytest.approx(1.959964**2 / (10 + 1.959964**2), abs=1e-5)
    with pytest.raises(ValueError, match="nothing"):
        wilson(0, 0)
