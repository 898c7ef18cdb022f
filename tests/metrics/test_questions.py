import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.metrics.questions import accuracy, asked, unparsed

OPTIONS = {"A": "runs", "B": "sits"}


def choice(clip, answer="A", **more):
    return {"clip": clip, "answer": answer, "options": OPTIONS} | more


def test_what_cannot_be_read_is_wrong_and_counted():
    rows = asked([("A", choice("x")), ("It runs or so", choice("x")), ("B.", choice("y"))])
    assert accuracy(rows).value == pytest.approx(1 / 3)
    assert unparsed(rows).value == pytest.approx(1 / 3)
    assert accuracy(rows).clusters == ("x", "y")


def test_one_benchmark_leaves_unread_answers_out():
    answers = [("A", choice("x")), ("who knows", choice("x")), ("B", choice("y"))]
    measure = accuracy(asked(answers, "videomme"))
    assert (measure.value, measure.protocol) == (0.5, "videomme")
    assert accuracy(asked(answers, "tempcompass")).value == pytest.approx(1 / 3)


def test_a_truth_without_a_question():
    with pytest.raises(UserError, match="holds no closed question"):
        asked([("A", {"objects": []})])
