"""Who does what, which way and in which order, read out of free English."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.data.world.clips.descriptions import describe_clip
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import event_question, event_said, read_events
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORLD, WORDS = Vocabulary.load("world"), EventWords.load("world")


def said(text):
    """Events in the order they are told to have happened, those at the same time joined; denials after them."""
    claims = read_events(text, WORLD, WORDS)
    groups = {}
    for claim in sorted((c for c in claims if not c.negated), key=lambda c: (c.when, c.start)):
        groups.setdefault(claim.when, []).append(claim.kind)
    return [" = ".join(group) for group in groups.values()] + ["-" + c.kind for c in claims if c.negated]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The red car moves to the left.", ["car moves left"]),
        ("The car moves left.", ["car moves left"]),
        ("It is a car. It slides from left to right.", ["car moves right"]),
        ("A car next to a house moves up.", ["car moves up"]),
        ("The car that is red can be seen moving down.", ["car moves down"]),
        ("The star falls.", ["star moves down"]),
        ("The kite flew up and away.", ["kite moves up"]),
        ("Next appears a ball.", ["ball appears"]),
        ("A ball turns up at the top left.", ["ball appears"]),
        ("The cup leaves the scene.", ["cup vanishes"]),
        ("The boat bumps into the cup.", ["boat meets cup"]),
        ("The boat goes left until it touches the cup.", ["boat meets cup left"]),
        ("The fish swims over to the boat and touches it.", ["fish meets boat"]),
        ("The car and the boat meet.", ["car meets boat"]),
        ("A car and a boat move left.", ["car moves left = boat moves left"]),
        ("The box moves left, then right, and disappears.", ["box moves left", "box moves right", "box vanishes"]),
    ],
)  # fmt: skip
def test_who_does_what_which_way(text, expected):
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Before the ball appears, the car moves left.", ["car moves left", "ball appears"]),
        ("The ball appears before the car moves left.", ["ball appears", "car moves left"]),
        ("After the ball appears, the car moves left.", ["ball appears", "car moves left"]),
        ("The ball appears after the car moves left.", ["car moves left", "ball appears"]),
        ("The car drives to the left once the tree is gone.", ["tree vanishes", "car moves left"]),
        ("The ball appears. Before that the car vanishes.", ["car vanishes", "ball appears"]),
        ("The ball appears. After that, the car vanishes.", ["ball appears", "car vanishes"]),
        ("A tree emerges. Earlier, the ball had left the scene.", ["ball vanishes", "tree appears"]),
        ("While the car moves left, a star vanishes.", ["car moves left = star vanishes"]),
        ("The ball appears as the car moves left.", ["ball appears = car moves left"]),
        ("The ball appears. At the same time, the car vanishes.", ["ball appears = car vanishes"]),
        ("The car moves up before the ball appears, then the star vanishes.",
         ["car moves up", "ball appears", "star vanishes"]),
    ],
)  # fmt: skip
def test_the_order_told_need_not_be_that_of_the_words(text, expected):
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The car does not move.", ["-car moves"]),
        ("No car moves.", ["-car moves"]),
        ("Neither the car nor the ball moves.", ["-car moves", "-ball moves"]),
        ("The car stays where it is.", ["-car moves"]),
        ("There is a house that does not move and a car that goes left.", ["car moves left", "-house moves"]),
        ("The star never appears.", ["-star appears"]),
        ("Does the car move left?", []),
        ("The car appears red.", []),
        ("The car appears to be a toy.", []),
        ("There is a car on the left.", []),
        ("The dog moves left.", []),
        ("Its moves are slow.", []),
    ],
)
def test_what_is_denied_and_what_says_nothing(text, expected):
    assert said(text) == expected


def test_a_claim_about_an_event_is_a_claim():
    text = "There is a car.  Perhaps the car moves to the left."
    (claim,) = read_events(text, WORLD, WORDS)
    assert (claim.kind, claim.sentence, claim.negated, claim.hedged, claim.colour) == (
        "car moves left",
        1,
        False,
        True,
        None,
    )
    assert text[claim.start : claim.end] == "moves to the left"
    assert claim.question == "Does the car move to the left?"


def test_how_events_are_worded():
    assert event_question("ball", "appear") == "Does a ball appear?"
    assert event_question("boat", "meet", "left", "cup") == "Does the boat meet the cup?"
    assert event_said("umbrella", "appear") == "an umbrella appears"
    assert event_said("fish", "move", "up") == "the fish moves up"


@pytest.mark.parametrize(
    "event",
    [
        ("car", "move", "left", None),
        ("ball", "appear", None, None),
        ("boat", "meet", None, "cup"),
        ("star", "vanish", None, None),
    ],
)
def test_what_is_said_is_read_back(event):
    (claim,) = read_events(f"{event_said(*event)}.", WORLD, WORDS)
    assert (claim.subject, claim.action, claim.direction, claim.other) == event


def test_descriptions_of_drawn_clips():
    right = 0
    for index in range(60):
        told = describe_clip(story(index, "dev"), random.Random(index))
        claims = sorted((c for c in read_events(told.text, WORLD, WORDS) if not c.negated), key=lambda c: c.when or 0)
        found = [(c.action, c.subject, c.direction, c.other) for c in claims]
        right += found == [(c.action, c.kind, c.direction, c.other) for c in told.events]
    assert right >= 57


@given(st.text(max_size=80))
def test_any_text_can_be_read(text):
    for claim in read_events(text, WORLD, WORDS):
        assert 0 <= claim.start < claim.end <= len(text)


LINE = (
    "a the no not and or , . but ? car boat cup moves left appears touches after before while then it both vanish to up"
)


@given(st.lists(st.sampled_from(LINE.split()), max_size=20))
def test_any_order_of_words_can_be_read(words):
    claims = read_events(" ".join(words), WORLD, WORDS)
    ranks = sorted({claim.when for claim in claims if not claim.negated})
    assert ranks == list(range(len(ranks)))  # every rank from 0, none for what did not happen
    assert all(claim.when is None for claim in claims if claim.negated)
    assert all((claim.other is not None) == (claim.action == "meet") for claim in claims)
