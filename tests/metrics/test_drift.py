import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.metrics.drift import canaries, kl_low_variance, kl_to_start, mean_change
from vlm_selfalign.metrics.items import Item, Measure

logprobs = st.lists(st.floats(-5, 0), min_size=1, max_size=5)


def test_kl_by_hand():
    texts = [("a", [-1.0, -2.0], [-2.0, -2.5]), ("b", [-1.0], [-1.0])]
    assert kl_to_start(texts).value == pytest.approx(1.5 / 3)
    assert kl_to_start(texts, per_token=False).value == pytest.approx(1.5 / 2)


@given(st.lists(logprobs, min_size=1, max_size=5))
def test_the_start_has_not_moved(texts):
    same = [(str(i), text, text) for i, text in enumerate(texts)]
    assert kl_to_start(same).value == 0
    assert kl_low_variance(same).value == 0


@given(logprobs, st.data())
def test_the_low_variance_estimate_is_never_negative(policy, data):
    start = data.draw(st.lists(st.floats(-5, 0), min_size=len(policy), max_size=len(policy)))
    assert kl_low_variance([("a", policy, start)]).value >= 0


def test_both_estimate_the_true_kl():
    p, q = [0.7, 0.2, 0.1], [0.5, 0.3, 0.2]
    true = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    drawn = random.Random(0).choices(range(3), p, k=40_000)
    texts = [("a", [math.log(p[i]) for i in drawn], [math.log(q[i]) for i in drawn])]
    assert kl_to_start(texts).value == pytest.approx(true, abs=0.005)
    assert kl_low_variance(texts).value == pytest.approx(true, abs=0.005)


def test_unequal_tokens_are_refused():
    with pytest.raises(ValueError, match="2 tokens under the policy, 1"):
        kl_to_start([("a", [-1.0, -1.0], [-1.0])])


def test_canaries_are_paired_differences():
    before = {"count": Measure.of("count", [Item(str(i), 1, 1) for i in range(20)])}
    after = {"count": Measure.of("count", [Item(str(i), i % 2, 1) for i in range(20)])}
    found = canaries(before, after, draws=500)["count"]
    assert found is not None
    assert found.value == -0.5
    assert found.high < 0


def test_mean_change():
    assert mean_change("chosen", {"a": -3.0, "b": -1.0}, {"a": -1.0, "b": -2.0}).value == 0.5
    with pytest.raises(KeyError):
        mean_change("chosen", {"a": -3.0}, {})
