import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.registry import resolve
from vlm_selfalign.metrics.parts import band, by_frames, by_length, by_tag, divided, question_measures
from vlm_selfalign.metrics.questions import accuracy, asked


def yes(clip, answer="Yes", **more):
    return answer, {"clip": clip, "answer": "yes"} | more


ANSWERS = [
    yes("a", seconds=5.0, tags={"aspect": "order"}),
    yes("b", "No", seconds=10.0, tags={"aspect": "order"}),
    yes("c", seconds=3000.0, tags={"aspect": "speed"}),
    yes("d", "No"),
]


def test_by_length_and_tag():
    rows = asked(ANSWERS)
    assert {n: m.value for n, m in by_length(rows).items()} == {
        "under 10 s": 1, "10 to 60 s": 0, "240 s and more": 1, "unknown": 0,
    }  # fmt: skip
    assert list(by_length(rows)) == ["under 10 s", "10 to 60 s", "240 s and more", "unknown"]
    assert {n: m.value for n, m in by_tag(rows, "aspect").items()} == {"order": 0.5, "speed": 1, "unknown": 0}


def test_by_frames_over_several_runs():
    rows = [*asked(ANSWERS[:2], frames=16), *asked(ANSWERS[:1], frames=8), *asked(ANSWERS[1:2], frames=128)]
    found = by_frames(rows)
    assert list(found) == ["8", "16", "128"]
    assert [measure.value for measure in found.values()] == [1, 0.5, 0]


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(0.0, "under 10 s"), (9.99, "under 10 s"), (10.0, "10 to 60 s"), (60.0, "60 to 240 s"), (240.0, "240 s and more")],
)
def test_a_band_holds_its_lower_end(seconds, name):
    assert band(seconds) == name
    assert band(None) is None and band(3.0, ()) == "any"


@given(st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 1e4)), min_size=1))
def test_parts_add_up_to_the_whole(answers):
    rows = asked([yes(str(i), "Yes" if right else "No", seconds=s) for i, (right, s) in enumerate(answers)])
    found = by_length(rows).values()
    assert sum(m.num for m in found) == accuracy(rows).num and sum(m.den for m in found) == len(rows)
    assert sum(m.den for m in divided(rows, lambda row: row.right, accuracy).values()) == len(rows)


def test_all_by_name_and_only_what_there_is():
    assert set(question_measures(asked(ANSWERS))) == {
        "accuracy", "unparsed", "yes_difference", "no_difference", "false_positive_ratio",
    }  # fmt: skip
    paired = [
        ("Yes", {"clip": "a", "answer": gold, "pair": "1", "side": side, "tags": {"set": "temporal"}})
        for gold, side in (("yes", "basic"), ("no", "hallucination"))
    ]
    found = question_measures(asked(paired))
    assert {"both_right", "mean_of_sets", "hallucinated"} <= set(found) and "reversal_consistency" not in found
    assert question_measures([]) == {}


def test_a_recipe_finds_them_by_name():
    found = resolve("metric", "closed_questions")(protocol="videohallucer", by="tags")(ANSWERS)
    assert found["accuracy/aspect/order"].value == 0.5 and found["accuracy"].protocol == "videohallucer"
    assert resolve("metric", "closed_questions")(by="length")(ANSWERS)["accuracy/under 10 s"].value == 1
