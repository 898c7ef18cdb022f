import pytest

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.requests import Text


def clip(name, *kinds):
    media = Media(kind="video", uri=name, content_hash=name.encode().hex())
    return Sample.of(Prompt.user("Describe the clip.", media), {"objects": [{"kind": k} for k in kinds], "events": []})


SAMPLES = [clip("a", "boat", "cup"), clip("b", "car")]


def rows_of(sample, *texts, among=SAMPLES, **settings):
    ask = resolve("probe", "self_questions")(**settings)
    steps = ask(sample, ask.survey(among))
    assert len(next(steps)) == len(texts)
    with pytest.raises(StopIteration) as done:
        steps.send([Text(text=text) for text in texts])
    found = {}
    for row in done.value.value:
        found.setdefault(row.notes["measure"], []).append((row.answer, row.label, row.notes.get("kind")))
    return found


def test_a_question_may_fit_the_wrong_clip_too():
    found = rows_of(SAMPLES[0], "1. What colour is the boat?\n2. How many objects are there?", "I see a boat.")
    colour, count = ("What colour is the boat?", "colour"), ("How many objects are there?", "count")
    assert found["questions_answerable"] == [(t, 1.0, k) for t, k in (colour, count)]
    assert found["questions_fit_wrong_clip"] == [(t, float(k == "count"), k) for t, k in (colour, count)]
    assert [label for _, label, _ in found["questions_unread"]] == [0.0, 1.0]


def test_what_the_clip_does_not_hold_cannot_be_answered():
    found = rows_of(SAMPLES[1], "Where is the cup?", spatial=1, temporal=0)
    assert [label for _, label, _ in found["questions_answerable"]] == [0.0]
    assert [label for _, label, _ in found["questions_fit_wrong_clip"]] == [1.0]


def test_a_clip_measured_alone_has_no_wrong_clip():
    found = rows_of(SAMPLES[0], "What colour is the boat?", among=SAMPLES[:1], spatial=1, temporal=0)
    assert set(found) == {"questions_unread", "questions_answerable"}
    assert [label for _, label, _ in found["questions_answerable"]] == [1.0]


def test_one_question_at_a_time_is_drawn_anew():
    steps = resolve("probe", "self_questions")(spatial=0, temporal=0, free="Ask a question about the clip.", times=3)
    requests = next(steps(SAMPLES[0], steps.survey(SAMPLES)))
    assert [request.draw for request in requests] == [0, 1, 2]
    assert {request.prompt.question for request in requests} == {"Ask a question about the clip."}
