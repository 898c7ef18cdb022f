import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.registry import resolve
from vlm_selfalign.metrics.captions import caption_measures, chair_by_sentence, chair_i, read
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORLD = Vocabulary.load("world")
KINDS = sorted(WORLD.kinds)

TEXTS = [
    ("s1", "There is a red car. There is a boat. There is a red car.", [{"kind": "car", "colour": "blue"}]),
    ("s2", "There is a tree in green. There is no house.", [{"kind": "tree", "colour": "green"}, {"kind": "house"}]),
    ("s3", "It is hard to say.", ["star"]),
]


def values(texts):
    return {name: measure.value for name, measure in caption_measures(read(texts, WORLD)).items()}


def test_closed_forms():
    found = values(TEXTS)
    assert found["chair_i"] == pytest.approx(1 / 4)  # car, BOAT, car, tree
    assert found["chair_s"] == pytest.approx(1 / 3)
    assert found["recall"] == pytest.approx(2 / 4)  # car, tree of car, tree, house, star
    assert found["unparsed"] == pytest.approx(1 / 3)
    assert found["repetition"] == pytest.approx(1 / 3)  # car
    assert found["repeated_sentences"] == pytest.approx(1 / 6)
    assert found["wrong_colour"] == pytest.approx(2 / 3)
    assert found["false_denials"] == pytest.approx(1)  # there is a house
    assert found["length"] == pytest.approx((14 + 10 + 5) / 3)


def test_each_kind_once_is_another_protocol():
    measure = chair_i(read(TEXTS, WORLD), repeats=False)
    assert (measure.value, measure.protocol) == (pytest.approx(1 / 3), "distinct")


def test_chair_by_sentence():
    measures = chair_by_sentence(read(TEXTS, WORLD))
    assert [measure.value for measure in measures] == [0, 1, 0]
    assert chair_by_sentence(read(TEXTS, WORLD), most=2)[1].value == 0.5


def test_a_recipe_finds_them_by_name():
    found = resolve("metric", "captions")(vocabulary="world")(TEXTS)
    assert found["chair_i"].value == pytest.approx(1 / 4)


caption = st.builds(
    lambda named: " ".join(f"There is a {kind}." for kind in named), st.lists(st.sampled_from(KINDS), max_size=5)
)
truth = st.lists(st.sampled_from(KINDS), min_size=1, max_size=5, unique=True)
texts = st.lists(st.tuples(st.sampled_from("abc"), caption, truth), min_size=1, max_size=5)


@given(texts)
def test_bounds(texts):
    found = caption_measures(read(texts, WORLD))
    for name in ("chair_i", "chair_s", "recall", "unparsed", "repeated_sentences", "wrong_colour", "false_denials"):
        assert found[name].value is None or 0 <= found[name].value <= 1
    false = found["chair_i"].num
    assert found["chair_s"].num <= false
    assert (false == 0) == (found["chair_s"].num == 0)


@given(texts, st.integers())
def test_order_does_not_matter(texts, seed):
    shuffled = random.Random(seed).sample(texts, len(texts))
    assert values(texts) == pytest.approx(values(shuffled))


@given(truth)
def test_the_truth_itself_is_without_fault(kinds):
    found = values([("s", " ".join(f"I see a {kind}." for kind in kinds), kinds)])
    assert (found["chair_i"], found["recall"], found["repetition"]) == (0, 1, 0)
