import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.happenings import (
    Happening,
    backwards,
    borne_out,
    came_first,
    events_of,
    happened,
    is_part,
    knows_events,
    told_in_reverse,
)

WORDS = EventWords.load("world")
MEETING = Happening("meet", "boat", "left", "cup", 1.0, 2.0)

happening = st.builds(
    Happening,
    st.sampled_from(["move", "appear", "vanish"]),
    st.sampled_from(["car", "boat", "cup"]),
    st.sampled_from([None, "left", "right", "up"]),
)


def test_the_truth_of_a_drawn_clip():
    events = events_of(clip_truth(story(3, settings=ClipSettings()), ClipSettings()))
    assert events and all(event.start < event.end for event in events)
    assert {event.action for event in events} <= set(WORDS.actions)


@pytest.mark.parametrize(
    ("said", "true"),
    [
        (Happening("meet", "boat", "left", "cup"), True),
        (Happening("meet", "cup", None, "boat"), True),
        (Happening("meet", "cup", "left", "boat"), False),
        (Happening("meet", "boat", None, "car"), False),
        (Happening("meet", "boat"), True),
        (Happening("move", "boat", "left"), True),
        (Happening("move", "boat"), True),
        (Happening("move", "boat", "right"), False),
        (Happening("move", "cup"), False),
        (Happening("vanish", "boat"), False),
    ],
)
def test_a_meeting_bears_out_what_is_part_of_it(said, true):
    assert is_part(said, MEETING, WORDS) == true
    assert happened(said, [Happening("appear", "star"), MEETING], WORDS) == true


def test_one_event_bears_out_one_claim():
    events = [Happening("move", "car", "left"), Happening("move", "car", "up")]
    said = [Happening("move", "car"), Happening("move", "car", "up"), Happening("move", "car")]
    assert borne_out(said, events, WORDS) == [0, 1, None]


def test_which_came_first():
    timed = [
        Happening("appear", "car", start=2.0),
        Happening("appear", "cup", start=1.0),
        Happening("vanish", "car", start=1.0),
    ]
    assert [came_first(0, 1, timed), came_first(1, 0, timed), came_first(1, 2, timed)] == [False, True, None]
    untimed = [Happening("appear", "car"), Happening("appear", "cup")]
    assert came_first(0, 1, untimed) is True


@given(st.lists(happening, max_size=5))
def test_a_clip_played_backwards_twice_is_itself(events):
    assert backwards(backwards(events, WORDS), WORDS) == events


@given(st.lists(happening, max_size=5), st.lists(happening, max_size=5))
def test_telling_in_reverse(events, others):
    num, den = told_in_reverse(events, backwards(events, WORDS), WORDS)
    assert num == den == 2 * len(events)
    assert told_in_reverse(events, others, WORDS) == told_in_reverse(others, events, WORDS)


def test_a_truth_of_another_shape():
    assert events_of({"objects": []}) == events_of("words") == []
    assert knows_events({"events": []}) and not knows_events({"objects": []})
    with pytest.raises(UserError, match=r"truth.events\[0\]: 'moves' is not an object"):
        events_of({"events": ["moves"]})
    with pytest.raises(UserError, match=r"truth.events\[1\].action: None is no text"):
        events_of({"events": [{"action": "move", "kind": "car"}, {"kind": "car"}]})
    with pytest.raises(UserError, match=r"truth.events\[0\].start: 'now' is no number of seconds"):
        events_of({"events": [{"action": "move", "kind": "car", "start": "now"}]})
