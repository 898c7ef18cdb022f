import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.registry import resolve
from vlm_selfalign.data.world.clips.descriptions import describe_clip
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.metrics.statistics import difference, estimate
from vlm_selfalign.metrics.temporal import event_measures, narrate, order_accuracy, reversal_agreement
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import event_said
from vlm_selfalign.scoring.happenings import Happening, backwards, events_of
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORLD, WORDS = Vocabulary.load("world"), EventWords.load("world")


def event(action, kind, direction=None, other=None, start=None):
    return {"action": action, "kind": kind, "direction": direction, "other": other, "start": start, "end": start}


FIRST = {
    "events": [
        event("move", "car", "left", start=0.0),
        event("appear", "ball", start=1.0),
        event("vanish", "car", start=2.0),
    ]
}
SECOND = {"events": [event("meet", "boat", "up", "cup", start=0.5)]}
TEXTS = [
    # false: star appears; right: ball, car left, car vanishes; the first two the wrong way round
    ("c1", "A ball appears. Then the car moves left. A star appears. Finally the car vanishes.", FIRST),
    # wrong way; the denial is false
    ("c2", "The boat moves down. The cup does not move. The boat never meets a cup.", SECOND),
    ("c3", "There is a house.", {"events": []}),
]


def values(texts):
    return {name: measure.value for name, measure in event_measures(narrate(texts, WORLD, WORDS)).items()}


def test_closed_forms():
    found = values(TEXTS)
    assert found["event_chair_i"] == pytest.approx(2 / 5)
    assert found["event_chair_s"] == pytest.approx(2 / 3)
    assert found["event_recall"] == pytest.approx(3 / 4)
    assert found["order_accuracy"] == pytest.approx(2 / 3)
    assert found["wrong_direction"] == pytest.approx(1 / 2)  # car left, boat DOWN
    assert found["false_event_denials"] == pytest.approx(1 / 2)  # of: cup does not move, boat never meets
    assert found["events_told"] == pytest.approx(5 / 3)
    assert found["events_unparsed"] == pytest.approx(1 / 3)


def test_what_is_told_as_at_the_same_time_claims_no_order():
    text = "While the car moves left, a ball appears. Then the car vanishes."
    measure = event_measures(narrate([("c", text, FIRST)], WORLD, WORDS))["order_accuracy"]
    assert (measure.num, measure.den) == (2, 2)


def test_what_happens_twice_has_no_order():
    truth = {"events": [event("move", "car", "left"), event("appear", "ball"), event("move", "car", "left")]}
    measures = event_measures(narrate([("c", "The car moves left. Then a ball appears.", truth)], WORLD, WORDS))
    assert measures["order_accuracy"].den == 0 and measures["event_recall"].value == pytest.approx(2 / 3)


def test_drawn_clips_described_with_known_falsehoods():
    for index in range(60):
        plot = story(index, "dev")
        described = describe_clip(plot, random.Random(index))
        (one,) = narrate([("c", described.text, clip_truth(plot))], WORLD, WORDS)
        false = sorted((claim.action, claim.subject) for claim in one.told if one.is_false(claim))
        assert false == sorted((claim.action, claim.kind) for claim in described.false)
        assert order_accuracy([one]).value in (1, None)


def test_what_began_together_has_no_order():
    truth = {"events": [event("appear", "ball", start=1.0), event("appear", "star", start=1.0)]}
    measure = event_measures(narrate([("c", "A star appears. Then a ball appears.", truth)], WORLD, WORDS))[
        "order_accuracy"
    ]
    assert measure.den == 0 and measure.value is None


def test_a_clip_and_its_reverse():
    pairs = [
        ("The car moves left. Then a ball appears.", "A ball vanishes. Then the car moves right."),  # 2 of 2
        ("The car moves left.", "The car moves left."),  # blind to time
        ("The boat moves up and meets the cup.", "The boat moves down."),  # a meeting is a move backwards
    ]
    narrated = [tuple(narrate([(f"c{i}", text, {}) for text in pair], WORLD, WORDS)) for i, pair in enumerate(pairs)]
    measure = reversal_agreement(narrated)
    assert [(item.num, item.den) for item in measure.items] == [(4, 4), (0, 2), (2, 2)]


def test_intervals_resample_clips():
    before = event_measures(narrate(TEXTS, WORLD, WORDS))["event_chair_i"]
    after = event_measures(narrate([(clip, "The car moves left.", truth) for clip, _, truth in TEXTS], WORLD, WORDS))[
        "event_chair_i"
    ]
    found = estimate(before, draws=200)
    assert found.n == 3 and found.low <= found.value <= found.high
    assert difference(before, before, draws=200).value == 0
    assert difference(before, after, draws=200).value == pytest.approx(2 / 3 - 2 / 5)


def test_a_recipe_finds_them_by_name():
    assert resolve("metric", "clip_events")(vocabulary="world")(TEXTS)["event_recall"].value == pytest.approx(3 / 4)


kinds = st.sampled_from(["car", "boat", "cup", "star"])
happenings = st.one_of(
    st.builds(event, st.just("move"), kinds, st.sampled_from(["left", "right", "up", "down"])),
    st.builds(event, st.sampled_from(["appear", "vanish"]), kinds),
)
stories = st.lists(happenings, max_size=4, unique_by=str)


def told(events):
    said = events_of({"events": events})
    return " Then ".join(event_said(*one.said) + "." for one in said)


@given(stories)
def test_the_truth_itself_is_without_fault(events):
    found = values([("c", told(events), {"events": events})])
    assert found["event_chair_i"] in (0, None)
    assert found["event_recall"] in ((1,) if events else (None,))
    assert found["order_accuracy"] in ((1,) if len(events) > 1 else (None,))


@given(stories)
def test_the_truth_told_from_the_end_has_all_orders_wrong(events):
    found = values([("c", told(events[::-1]), {"events": events})])
    assert found["event_recall"] in ((1,) if events else (None,))
    assert found["order_accuracy"] in ((0,) if len(events) > 1 else (None,))


@given(st.lists(st.tuples(st.sampled_from("abc"), stories.map(told), stories), min_size=1, max_size=4), st.integers())
def test_bounds_and_order_of_clips(clips, seed):
    texts = [(clip, text, {"events": events}) for clip, text, events in clips]
    found = values(texts)
    for name, value in found.items():
        assert value is None or 0 <= value <= (1 if name != "events_told" else 4)
    assert values(random.Random(seed).sample(texts, len(texts))) == pytest.approx(found)


@given(stories)
def test_a_true_telling_of_both_ways_round_agrees_fully(events):
    forwards = events_of({"events": events})
    back = " Then ".join(event_said(*one.said) + "." for one in backwards(forwards, WORDS))
    one, two = narrate([("c", told(events), {}), ("c", back, {})], WORLD, WORDS)
    assert reversal_agreement([(one, two)]).value in ((1,) if events else (None,))
    assert all(isinstance(event, Happening) for event in forwards)
