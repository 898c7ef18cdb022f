import pytest

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.requests import Choose, Chosen, Generate, Text
from vlm_selfalign.metrics.questions import accuracy, asked

TRUTH = {"clip": "a.mp4", "answer": "B", "options": {"A": "runs", "B": "sits"}, "tags": {"task": "action"}}
SAMPLE = Sample.of(Prompt.user("What?\nA. runs\nB. sits"), TRUTH)


def answered(reply, sample=SAMPLE, **settings):
    """The rows of the probe, given one reply; and what was asked."""
    steps = resolve("probe", "closed_questions")(**settings)(sample)
    (request,) = next(steps)
    with pytest.raises(StopIteration) as done:
        steps.send([reply])
    return done.value.value, request


@pytest.mark.parametrize(
    ("text", "said", "right"), [("(B) sits.", "B", 1), ("A", "A", 0), ("It sits or runs", None, 0)]
)
def test_the_model_answers_in_its_own_words(text, said, right):
    (row,), request = answered(Text(text=text))
    assert isinstance(request, Generate) and request.prompt == SAMPLE.prompt
    assert (row.answer, row.label, row.notes["said"], row.notes["cluster"]) == (text, right, said, "a.mp4")
    assert accuracy(asked([(row.answer, row.notes["truth"])])).value == right


def test_the_likeliest_label():
    (row,), request = answered(Chosen(choices=("A", "B"), logprobs=(-3.0, -1.0)), how="choose")
    assert isinstance(request, Choose) and request.choices == ("A", "B") and row.label == 1


def test_yes_and_no():
    sample = Sample.of(Prompt.user("Is it?"), {"clip": "a.mp4", "answer": "no"})
    (row,), request = answered(Chosen(choices=("Yes", "No"), logprobs=(-3.0, -1.0)), sample, how="choose")
    assert request.choices == ("Yes", "No") and row.notes["said"] == "no" and row.label == 1


def test_a_sample_without_a_question_is_dropped():
    with pytest.raises(Drop, match="no closed question"):
        next(resolve("probe", "closed_questions")()(Sample.of(Prompt.user("Describe."), {"objects": []})))
