"""What the benchmarks' own scripts make of answers, quirk by quirk."""

import pytest

from vlm_selfalign.scoring.closed_questions import ClosedQuestion, question_of
from vlm_selfalign.scoring.published import leaves, read_answer

YES = ClosedQuestion(clip="c", answer="yes")
NO = ClosedQuestion(clip="c", answer="no")
FOUR = ClosedQuestion(clip="c", answer="B", options={"A": "4.", "B": "9.", "C": "5.", "D": "13."})
TWO = ClosedQuestion(clip="c", answer="A", options={"A": "runs", "B": "sits"})
CAPTION = ClosedQuestion(clip="c", answer="Option 2", options={"Option 1": "It runs.", "Option 2": "It sits."})


@pytest.mark.parametrize(
    ("answer", "yes", "no"),
    [
        ("Yes.", True, False),
        ("NO", False, True),
        ("yes and no", True, True),
        ("know", False, False),
        ("", False, False),
    ],
)
def test_videohallucer_finds_the_word_anywhere(answer, yes, no):
    assert (read_answer(answer, YES, "videohallucer") == "yes") == yes
    assert (read_answer(answer, NO, "videohallucer") == "no") == no


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("B", "B"),
        ("Based on the video, C", "B"),
        ("Best option: D", "B"),
        ("The best answer is D", "D"),
        ("the answer is c", None),
        ("", None),
    ],
)
def test_videomme_takes_the_first_capital_anywhere(answer, label):
    assert read_answer(answer, FOUR, "videomme") == label
    assert leaves(label, "videomme") == (label is None) and not leaves(label, "strict")


@pytest.mark.parametrize("answer", ["", "(", ")", "a", "(a", "(A) runs", "A."])
def test_mvbench_takes_these_for_right(answer):
    assert read_answer(answer, TWO, "mvbench") == "A"


@pytest.mark.parametrize("answer", ["The answer is (A)", "Answer: A", "(B) sits", "B"])
def test_mvbench_takes_these_for_wrong(answer):
    assert read_answer(answer, TWO, "mvbench") != "A"


@pytest.mark.parametrize(
    ("answer", "question", "label"),
    [
        ("A", TWO, "A"),
        ("B. sits", TWO, "B"),
        ("B) sits", TWO, "B"),
        ("(B)", TWO, None),
        ("sits", TWO, None),
        ("B. runs</s>", TWO, "B"),
        ("Option 2", CAPTION, "Option 2"),
        ("It sits.", CAPTION, "Option 2"),
        ("Option 1: It runs.", CAPTION, "Option 1"),
        ("(2) It sits.", CAPTION, "Option 2"),
        ("2", CAPTION, None),
        ("Yes, it does", YES, "yes"),
        ("No", YES, "no"),
        ("It does", YES, None),
    ],
)
def test_tempcompass_without_a_judge(answer, question, label):
    assert read_answer(answer, question, "tempcompass") == label


def test_a_question_survives_as_truth():
    assert question_of(FOUR.truth()) == FOUR and question_of(YES.truth()) == YES
    assert YES.truth() == {"clip": "c", "answer": "yes"}
    assert question_of({"objects": []}) is None
    assert question_of({"clip": "c", "answer": "yes", "other": 1}) is None
    assert FOUR.meant("B") == "9." and YES.meant("no") == "no" and YES.meant(None) is None
