from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import event_name
from vlm_selfalign.scoring.told import asked_back, event_of, read_told
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORLD, COCO, WORDS = Vocabulary.load("world"), Vocabulary.load("coco"), EventWords.load("world")


def test_things_and_events_in_the_order_of_the_text():
    text = "There is a red boat. The boat drifts to the left. There is no cup. A star appears."
    claims = read_told(text, WORLD, WORDS)
    assert [("-" if c.negated else "") + c.kind for c in claims] == [
        "boat", "boat", "boat moves left", "-cup", "star", "star appears",
    ]  # fmt: skip
    assert [claim.colour for claim in claims] == ["red", *[None] * 5]
    assert [claim.kind for claim in read_told(text, WORLD) if not claim.negated] == ["boat", "boat", "star"]


def test_how_names_are_asked_back():
    assert asked_back("car") == "Is there a car in the image?"
    assert asked_back("umbrella", WORDS, "clip") == "Is there an umbrella in the clip?"
    assert asked_back("car moves left", WORDS) == "Does the car move to the left?"
    assert asked_back("boat meets cup", WORDS) == "Does the boat meet the cup?"
    assert asked_back("ball appears", WORDS) == "Does a ball appear?"


kinds = st.sampled_from(sorted(COCO.kinds))


@given(kinds, st.sampled_from(["move", "appear", "vanish"]), st.none() | st.sampled_from(sorted(WORDS.directions)))
def test_a_name_says_which_event_it_is(kind, action, direction):
    event = event_of(event_name(kind, action, direction), WORDS)
    assert event is not None and event.said == (kind, action, direction, None)


@given(kinds, kinds, st.none() | st.sampled_from(sorted(WORDS.directions)))
def test_a_meeting_names_both(kind, other, direction):
    event = event_of(event_name(kind, "meet", direction, other), WORDS)
    assert event is not None and event.said == (kind, "meet", direction, other)


@given(kinds)
def test_a_thing_is_no_event(kind):
    assert event_of(kind, WORDS) is None
