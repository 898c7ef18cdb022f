import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.registry import resolve
from vlm_selfalign.metrics.answers import Answered, accuracy, named, pope, self_contradiction, yes_or_no

GOLDEN = [
    ("Yes", "yes"),
    ("No, there is no dog.", "no"),
    ("NO", "yes"),
    ("There is not.", "no"),
    ("I cannot see it. No.", "no"),
    ("yes. not sure", "yes"),
    ("", "no"),
    ("no\n", "no"),
]
ROWS = [Answered(f"s{i}", answer, truth) for i, (answer, truth) in enumerate(GOLDEN)]


def values(rows, protocol):
    return {name: measure.value for name, measure in pope(rows, protocol).items()}


def test_the_official_protocol_reproduces_the_published_script():
    found = values(ROWS, "official")
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == 0.625
    assert found["precision"] == 0.5
    assert found["recall"] == 1
    assert found["yes_ratio"] == 0.75
    assert found["unparsed"] == 0


def test_the_strict_protocol_reads_what_was_meant_and_counts_the_rest():
    assert [yes_or_no(answer) for answer, _ in GOLDEN] == ["yes", "no", "no", None, "no", "yes", None, "no"]
    found = values(ROWS, "strict")
    assert found["accuracy"] == 5 / 8
    assert found["unparsed"] == 2 / 8
    assert found["yes_ratio"] == 2 / 8


@pytest.mark.parametrize(
    ("answer", "official", "strict"),
    [
        ("isn't", "yes", None),
        ("No", "no", "no"),
        ("**No**", "yes", "no"),
        ("<|start|>Yes</s>", "yes", "yes"),
        ("Yes, there is no doubt.", "no", "yes"),
        ("Maybe yes or no", "no", None),
        ("The answer is yes.", "yes", "yes"),
        ("I know not", "no", None),
    ],
)
def test_where_the_protocols_part(answer, official, strict):
    assert yes_or_no(answer, "official") == official
    assert yes_or_no(answer, "strict") == strict


def test_a_model_that_never_says_yes_has_no_precision_but_an_f1():
    found = values([Answered("a", "No", "yes"), Answered("b", "No", "no")], "strict")
    assert found["precision"] is None
    assert found["f1"] == 0


@given(st.lists(st.tuples(st.sampled_from(["Yes", "No", "what"]), st.sampled_from(["yes", "no"])), min_size=1))
def test_f1_is_the_harmonic_mean(pairs):
    found = values([Answered(str(i), a, t) for i, (a, t) in enumerate(pairs)], "strict")
    precision, recall = found["precision"], found["recall"]
    if precision and recall:
        assert found["f1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_canaries():
    rows = [Answered("a", "It is red.", "red"), Answered("b", "Red or blue.", "red"), Answered("c", "blue", "red")]
    assert accuracy("colour", rows, ["red", "blue"]).value == pytest.approx(1 / 3)
    assert accuracy("count", [Answered("a", "Three.", "3"), Answered("b", "4", "3")]).value == 0.5
    assert named("There are four objects.", [str(n) for n in range(9)]) == "4"
    assert named("There is a car.", ["car", "boat"]) == "car"


def test_contradictions_need_no_truth():
    rows = [("a", ["car", "car", "boat"], {"car": "yes", "boat": "no"}), ("b", ["tree", "fish"], {"tree": None})]
    measure = self_contradiction(rows)
    assert (measure.num, measure.den) == (1, 2)


def test_a_recipe_finds_pope_by_name():
    found = resolve("metric", "pope_answers")(protocol="official")(ROWS)
    assert found["yes_ratio"].protocol == "official"
