import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.metrics.pairs import both_right, hallucinated, mean_of_sets, pairs, reversal_consistency, yes_bias
from vlm_selfalign.metrics.questions import accuracy, asked


def pair(name, basic, other, clip="c", **tags):
    """A basic question (yes) and a hallucinated one (no) with their answers."""
    return [
        (answer, {"clip": clip, "answer": gold, "pair": name, "side": side, "tags": tags})
        for answer, gold, side in ((basic, "yes", "basic"), (other, "no", "hallucination"))
    ]


def turned(name, forwards, backwards, gold=("A", "B")):
    options = [{"A": "left", "B": "right"}, {"A": "right", "B": "left"}]
    return [
        (answer, {"clip": side, "answer": right, "pair": name, "side": side, "options": listed})
        for answer, right, side, listed in zip(
            (forwards, backwards), gold, ("forwards", "backwards"), options, strict=True
        )
    ]


ANSWERS = [
    *pair("1", "Yes.", "No.", "a", set="temporal"),
    *pair("2", "Yes", "Yes", "a", set="temporal"),
    *pair("3", "No", "No", "b", set="temporal"),
    *pair("4", "Yes", "What?", "c", set="semantic_detail"),
]


def test_both_must_be_right():
    rows = asked(ANSWERS)
    assert accuracy(rows).value == pytest.approx(5 / 8)
    measure = both_right(rows)
    assert (measure.num, measure.den) == (1, 4)
    assert measure.clusters == ("a", "b", "c")


def test_the_headline_is_the_plain_mean_of_the_sets():
    rows = asked(ANSWERS)
    assert mean_of_sets(rows).value == pytest.approx((1 / 3 + 0) / 2)
    assert mean_of_sets(rows, only=["temporal"]).value == pytest.approx(1 / 3)
    assert mean_of_sets(rows, only=["interaction"]).value is None


def test_seen_and_hallucinated_all_the_same():
    measure = hallucinated(asked(ANSWERS))
    assert (measure.num, measure.den) == (2, 3)


def test_the_lean_to_yes():
    found = {name: measure.value for name, measure in yes_bias(asked(ANSWERS)).items()}
    assert found["yes_difference"] == 0  # 4 yes said, 4 right
    assert found["no_difference"] == pytest.approx(-1 / 8)  # 3 no said, 4 right
    assert found["false_positive_ratio"] == pytest.approx(1 / 3)  # wrong: yes, no, unread


def test_the_script_counts_the_answer_to_the_other_question():
    found = yes_bias(asked(ANSWERS), script=True)
    # n_yes: 1, 1 + 1, 0, 1 + 1; n_no: 1, 0, 1 + 1, 0; wrong: 0, 1, 1, 1; false positives: 0, 1, 0, 1
    assert found["yes_difference"].value == pytest.approx((5 - 4) / 8)
    assert found["no_difference"].value == pytest.approx((3 - 4) / 8)
    assert found["false_positive_ratio"].value == pytest.approx(2 / 3)
    assert found["yes_difference"].protocol == "script"


def test_a_constant_yes():
    rows = asked([answer for i in range(5) for answer in pair(str(i), "Yes", "Yes", clip=str(i))])
    found = {name: measure.value for name, measure in yes_bias(rows).items()}
    assert found == {"yes_difference": 0.5, "no_difference": -0.5, "false_positive_ratio": 1.0}
    assert both_right(rows).value == 0 and accuracy(rows).value == 0.5 and hallucinated(rows).value == 1


def test_answers_turn_where_the_truth_turns():
    answers = [
        *turned("same letter, other text", "A", "A"),  # left, right: turns, though one is wrong
        *turned("same text", "A", "B"),  # left, left
        *turned("unread", "A", "hm"),
        *turned("must stay", "A", "B", gold=("A", "B")),
    ]
    measure = reversal_consistency(asked(answers[:6]))
    # gold A and B are both "left" here: the truth stays, so only the second is consistent
    assert [item.num for item in measure.items] == [0, 1, 0]
    turning = reversal_consistency(asked(turned("turns", "A", "A", gold=("A", "A"))))
    assert turning.value == 1 and turning.clusters == ("backwards+forwards",)


def test_partners_that_are_missing_or_doubled():
    assert pairs(asked(pair("1", "Yes", "No")[:1])) == []
    assert both_right(asked(pair("1", "Yes", "No")[:1])).value is None
    with pytest.raises(UserError, match=r"pair '1' has two questions of one side"):
        pairs(asked([*pair("1", "Yes", "No"), *pair("1", "Yes", "No")]))


said = st.sampled_from(["Yes", "No", "What?"])


@given(st.lists(st.tuples(said, said, st.sampled_from("abc")), min_size=1, max_size=8))
def test_bounds(answers):
    rows = asked([one for i, (a, b, clip) in enumerate(answers) for one in pair(str(i), a, b, clip)])
    assert both_right(rows).value <= accuracy(rows).value <= (1 + both_right(rows).value) / 2 + 1e-9
    assert both_right(rows, "x").value == pytest.approx(mean_of_sets(rows).value)  # a single set
    bias = yes_bias(rows)
    assert -0.5 <= bias["yes_difference"].value <= 0.5
    ratio = bias["false_positive_ratio"].value
    assert ratio is None if accuracy(rows).value == 1 else 0 <= ratio <= 1


@given(st.lists(st.tuples(said, said), min_size=1, max_size=8))
def test_the_two_differences_cancel_when_everything_is_read(answers):
    rows = asked([one for i, (a, b) in enumerate(answers) for one in pair(str(i), a, b)])
    bias = yes_bias(rows)
    unread = sum(row.said is None for row in rows) / len(rows)
    assert bias["yes_difference"].value + bias["no_difference"].value == pytest.approx(-unread)
