import pytest

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.requests import Chosen
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.metrics.pairs import both_right
from vlm_selfalign.metrics.questions import accuracy, asked
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import read_events
from vlm_selfalign.scoring.happenings import events_of, happened
from vlm_selfalign.scoring.vocabulary import Vocabulary

SETTINGS = ClipSettings()
SAMPLES = [
    Sample.of(Prompt.user(f"Describe clip {i}."), clip_truth(story(i, settings=SETTINGS), SETTINGS)).seeded(0, 0)
    for i in range(12)
]
WORDS, WORLD = EventWords.load("world"), Vocabulary.load("world")


def rows_of(sample, answer, **settings):
    """The probe's rows when every question is answered by ``answer(question)``: how likely is yes."""
    steps = resolve("probe", "events")(**settings)(sample)
    requests = next(steps)
    likely = [answer(request.prompt.question) for request in requests]
    replies = [Chosen(choices=("Yes", "No"), logprobs=(0.0, -1.0) if yes else (-1.0, 0.0)) for yes in likely]
    with pytest.raises(StopIteration) as done:
        steps.send(replies)
    return done.value.value


def claim_of(question):
    """The event that a question asks about, read out of it as out of a description."""
    words = question.removeprefix("Does ").rstrip("?").split()
    (claim,) = read_events(f"{' '.join(words)}.".capitalize(), WORLD, WORDS)
    return claim


@pytest.mark.parametrize("sample", SAMPLES[:6], ids=lambda sample: sample.id[:6])
def test_one_event_happened_and_its_twin_did_not(sample):
    rows = rows_of(sample, lambda question: True, at_most=9, orders=0)
    events = events_of(sample.truth)
    assert {row.notes["measure"] for row in rows} == {"event_questions"}
    for row in rows:
        assert happened(claim_of(row.prompt.question), events, WORDS) == (row.notes["gold"] == "yes")


def test_who_always_says_yes_gets_no_pair():
    rows = [row for sample in SAMPLES for row in rows_of(sample, lambda question: True)]
    found = asked([(row.answer, row.notes["truth"]) for row in rows])
    assert accuracy(found).value == 0.5 and both_right(found).value == 0
    assert {row.notes["cluster"] for row in rows} == {sample.id for sample in SAMPLES}
    assert all(row.notes["truth"]["seconds"] == SETTINGS.duration for row in rows)


def test_orders_come_both_ways_round():
    for sample in SAMPLES:
        rows = rows_of(sample, lambda question: True, at_most=0, orders=9) if len(sample.truth["events"]) > 1 else []
        for basic, other in zip(rows[::2], rows[1::2], strict=True):
            first, second = (row.prompt.question.split(": ")[1].rstrip("?").split(", then ") for row in (basic, other))
            assert first == second[::-1] and (basic.notes["gold"], other.notes["gold"]) == ("yes", "no")


def test_the_same_sample_is_asked_the_same_questions():
    first, second = (rows_of(SAMPLES[0], lambda question: False) for _ in range(2))
    assert [row.prompt for row in first] == [row.prompt for row in second]
    assert all(row.label == (row.notes["gold"] == "no") for row in first)


def test_a_sample_without_events_is_dropped():
    with pytest.raises(Drop, match="no events in the truth"):
        next(resolve("probe", "events")()(Sample.of(Prompt.user("?"), {"objects": []})))


def test_asked_again_with_fewer_frames():
    media = Media(kind="video", uri="a.mp4", content_hash="00")
    sample = Sample.of(Prompt.user("Describe the clip.", media), SAMPLES[0].truth).seeded(0, 0)
    rows = rows_of(sample, lambda question: True, frames=(4, 16), shown=16)
    few = [row for row in rows if row.notes.get("frames") == 4]
    assert len(rows) == 2 * len(few), "16 of 16 frames are all of them"
    assert [row.prompt.question for row in few] == [row.prompt.question for row in rows[: len(few)]]
    (view,) = few[0].prompt.media[0].views
    assert (view.name, view.amount) == ("drop", 0.75) and not rows[0].prompt.media[0].views
