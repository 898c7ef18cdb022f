"""Consensus, minimal rewrites, given answers, guards of revisions, and judging both ways round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.scoring.consensus import agreement, consensus, plain
from vlm_selfalign.scoring.given import given_answer
from vlm_selfalign.scoring.judging import against
from vlm_selfalign.scoring.revisions import only_praises, times_as_long, without_leakage
from vlm_selfalign.scoring.rewrites import changed_share, transplanted
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORDS = Vocabulary.load("world_clips")
RIGHT = "A boat is there. The boat moves left. A star appears."


def test_agreement_is_over_things_and_events():
    assert agreement("A boat moves left.", "The boat moves to the left.", WORDS) == 1
    assert agreement("A boat moves left.", "A boat moves right.", WORDS) == pytest.approx(2 / 4)
    assert agreement("Twice.", "twice", WORDS) == 1 and agreement("Twice.", "Once.", WORDS) == 0


def test_consensus_is_what_most_others_say():
    assert consensus(["A fish.", "A boat.", "The boat!"], WORDS) == (1, 0.5)
    assert consensus(["Twice."], WORDS) == (0, 0.0)
    with pytest.raises(ValueError, match="no answers"):
        consensus([], WORDS)


def test_a_sentence_goes_where_its_like_was():
    assert transplanted(RIGHT, ["The boat moves up."]) == "A boat is there. The boat moves up. A star appears."
    both = transplanted(RIGHT, ["A fish appears.", "The boat moves up."])
    assert both == "A boat is there. The boat moves up. A fish appears."
    assert transplanted(RIGHT, ["The BOAT moves left!"]) is None, "it says the same"
    assert transplanted(RIGHT, ["Many small fish swim about."]) is None
    assert transplanted("", ["A boat."]) is None


@given(st.lists(st.sampled_from(["A boat sinks.", "A star falls.", "It is red."]), min_size=1), st.text())
def test_only_whole_sentences_change(sentences, other):
    text = " ".join(sentences)
    told = transplanted(text, [other])
    assert told is None or (told != text and any(part in told for part in [other.strip(), *sentences]))


def test_changed_share():
    assert changed_share("a b c d", "a b c d") == 0 and changed_share("a b", "c d") == 1
    assert changed_share("a b c d", "a b c e") == pytest.approx(0.25)


def test_given_answers():
    assert given_answer(None) is None and given_answer({}) is None and given_answer(" ") is None
    assert given_answer("Left. ") == "Left." and given_answer({"answer": "Left."}) == "Left."
    assert given_answer({"clip": "1", "answer": "no"}) == "No"
    assert given_answer({"clip": "1", "answer": "B", "options": {"A": "x", "B": "y"}}) == "B"
    assert given_answer({"events": []}) is None


@pytest.mark.parametrize(
    "critique",
    ["No errors.", "There is nothing wrong.", "Good answer!", "The answer is accurate and complete.", "no mistakes"],
)
def test_praise(critique):
    assert only_praises(critique)


@pytest.mark.parametrize(
    "critique",
    [
        "The boat moves left.",
        "Good, but it moves left.",
        "It isn't right.",
        "Nothing wrong, except the order.",
        "Wrong.",
    ],
)
def test_critique(critique):
    assert not only_praises(critique)


@pytest.mark.parametrize(
    ("revision", "left"),
    [
        ("Revised answer: A boat.", "A boat."),
        ("Sure! Here is the corrected answer:\nA boat.", "A boat."),
        ("The previous answer was wrong. A boat sinks.", "A boat sinks."),
        ("A boat sinks. Thank you for the feedback!", "A boat sinks."),
        ("I apologize for the error.", ""),
        ("The answer: is a boat.", "is a boat."),
        ("A boat sinks first.", "A boat sinks first."),
        ("The car is right of the first tree.", "The car is right of the first tree."),
    ],
)
def test_leakage(revision, left):
    assert without_leakage(revision) == left


def test_lengths_and_orders():
    assert times_as_long("a b", "a b c d") == 2 and times_as_long("", "a") == float("inf")
    assert against(0.9, 0.6) == "" and "other" in against(0.1, 0.5) and "position" in against(0.9, 0.1)


def test_plain():
    assert plain(" The  BOAT's gone! ") == "the boat's gone"
