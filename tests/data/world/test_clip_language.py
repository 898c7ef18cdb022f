"""Clip descriptions and questions: what they say is read back, is true where it should be, and gives nothing away."""

import random
import re
from collections import Counter

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.clips.descriptions import describe_clip
from vlm_selfalign.data.world.clips.language import CHAINS, CLAUSES, TOWARDS
from vlm_selfalign.data.world.clips.questions import CLIP_TASKS, CLIP_YES_NO, asked_of_clip, does, happened, said
from vlm_selfalign.data.world.clips.settings import FOLLOWS, ClipSettings
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.scoring.claims import read_claims
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORLD = Vocabulary.load("world")
STORIES = [story(index, "dev") for index in range(300)]
KNOWN = [clip_truth(one) for one in STORIES]
TOLD = [describe_clip(one, rng("told", i)) for i, one in enumerate(STORIES)]

MOVE = {"action": "move", "kind": "boat", "direction": "up", "other": None}
MEET = {"action": "meet", "kind": "boat", "direction": "left", "other": "cup"}


def test_there_are_many_ways_to_say_an_event():
    templates = [clause.template for clauses in CLAUSES.values() for clause in clauses.values()]
    assert len(set(templates)) == len(templates) > 24 and len(CHAINS) >= 5
    assert (
        CLAUSES["meet"]["touches"].write(MEET, "the boat", "a cup")
        == "the boat goes to the left until it touches a cup"
    )
    claim = CLAUSES["meet"]["meets"].claim(MEET)
    assert (claim.direction, claim.other) == (None, "cup")
    assert CLAUSES["move"]["goes"].claim(MOVE).direction == "up"


@pytest.mark.parametrize("action", CLAUSES)
def test_objects_of_every_clause_are_read(action):
    event = {**MEET, "action": action, "other": "cup" if action == "meet" else None}
    for clause in CLAUSES[action].values():
        text = clause.write(event, "a red boat", "the blue cup", "top left") + "."
        claims = read_claims(text[0].upper() + text[1:], WORLD)
        expected = [("boat", "red")] + ([("cup", "blue")] if action == "meet" else [])
        assert [(c.kind, c.colour) for c in claims] == expected and not any(c.negated for c in claims), text


def test_objects_of_descriptions_are_read_as_they_are_meant():
    for told in TOLD:
        claims = read_claims(told.text, WORLD)
        assert not any(claim.negated for claim in claims), told.text
        assert {claim.kind for claim in claims} == set(told.kinds), told.text


def test_what_is_told_happened_in_that_order_but_for_what_is_known_to_be_false():
    for one, told in zip(STORIES, TOLD, strict=True):
        happened = [event.said for event in one.events]
        position = 0
        for claim in told.events:
            if claim in told.false:
                continue
            match = next(
                (n for n in range(position, len(happened)) if claims(claim, happened[n])),
                None,
            )
            assert match is not None, told.text
            position = match + 1
        assert set(told.still) <= set(one.kinds) - {name for e in one.events for name in (e.kind, e.other)}


def claims(claim, event):
    action, kind, direction, other = event
    return (
        (claim.action, claim.kind) == (action, kind)
        and claim.direction in (None, direction)
        and claim.other in (None, other)
    )


def test_the_text_says_the_events_in_that_order():
    """A small reader of our own: where each event is told, and what words say of their order."""
    verbs = {"meet": "meets|bumps|reaches|touches|comes up"}
    verbs |= {"appear": "appears|shows up|comes into|turns up|can now|enters"}
    verbs |= {"vanish": "vanishes|disappears|fades|leaves|melts", "move": "move|goes|drifts|slides|travels|moving|way"}
    for told in TOLD:
        told_events = iter(told.events)
        for sentence in told.sentences:
            if re.match(r"(At first|In the beginning|The clip starts)", sentence) or "not move" in sentence:
                continue
            if "stays where" in sentence or "Nothing happens" in sentence:
                continue
            turned = bool(re.match(r"Before ", sentence) or re.search(r"\w after (a|the) ", sentence))
            two = re.match(r"(Before|After|Once) (a|the) ", sentence) or re.search(
                r", and then |\w after (a|the) |\w before (a|the) ", sentence
            )
            parts = [next(told_events) for _ in range(2 if two else 1)]
            for part, claim in zip(halves(sentence, bool(two)), parts[::-1] if turned else parts, strict=True):
                assert re.search(rf"\b{claim.kind}\b", part) and re.search(verbs[claim.action], part), (sentence, claim)
        assert next(told_events, None) is None


def halves(sentence, two):
    if not two:
        return [sentence]
    return re.split(r", and then |, | after | before ", sentence, maxsplit=1)


def test_false_events_come_at_their_rate():
    dials = ClipSettings(omission=0, follows=FOLLOWS[1:2])
    invited = told = 0
    for index in range(400):
        one = story(index, settings=dials)
        beliefs = clip_truth(one, dials)["beliefs"]
        if len(beliefs) == 1:
            invited += 1
            told += bool(describe_clip(one, rng("rate", index), dials).false)
    assert invited > 60 and abs(told / invited - 0.4) < 0.12


def test_without_beliefs_everything_is_told_and_true():
    dials = ClipSettings(omission=0, follows=())
    for index in range(50):
        one = story(index, settings=dials)
        told = describe_clip(one, rng("plain", index), dials)
        assert told.false == () and [(c.action, c.kind) for c in told.events] == [
            (e.action, e.kind) for e in one.events
        ]
    assert told.text == describe_clip(one, rng("plain", 49), dials).text


def of_all(task):
    return [asked_of_clip(known, task, random.Random(i)) for i, known in enumerate(KNOWN)]


@pytest.mark.parametrize("task", CLIP_YES_NO)
def test_basic_and_hallucinated_questions_are_paired_and_in_any_order(task):
    first = Counter()
    for questions in of_all(task):
        for pair in zip(questions[::2], questions[1::2], strict=True):
            assert {q.answer for q in pair} == {"Yes", "No"} and len({q.pair for q in pair}) == 1 and pair[0].pair
            first[pair[0].answer] += 1
    assert first.total() > 100 and abs(first["Yes"] / first.total() - 0.5) < 0.08


def test_event_questions_are_right():
    for known in KNOWN:
        words = {does(event) for event in known["events"]}
        for task in ("event", "believed"):
            for q in asked_of_clip(known, task, random.Random(1)):
                if q.answer == "Yes":
                    assert q.text in words
                else:
                    assert q.text not in words


def test_a_meeting_is_a_move_and_both_meet():
    known = {"events": [MEET]}
    assert happened({**MOVE, "direction": "left"}, known) and not happened(MOVE, known)
    assert happened({**MEET, "kind": "cup", "other": "boat"}, known)
    assert not happened({**MEET, "other": "box"}, known)


def test_order_questions_are_right():
    for known in KNOWN:
        starts = {said(event): event["start"] for event in known["events"]}
        for q in asked_of_clip(known, "order", random.Random(2)):
            first, second = q.text.split(": ")[1].rstrip("?").split(", then ")
            assert (starts[first] < starts[second]) == (q.answer == "Yes")
        for q in asked_of_clip(known, "which_first", random.Random(2)):
            assert starts[q.answer] == min(starts[choice] for choice in q.choices)
            assert all(choice in q.text for choice in q.choices)


def test_choices_stand_first_half_of_the_time_and_directions_are_spread():
    for task in ("which_first", "who_first"):
        found = [q for few in of_all(task) for q in few]
        assert abs(sum(q.answer == q.choices[0] for q in found) / len(found) - 0.5) < 0.15
    ways = Counter(q.answer for few in of_all("direction") for q in few)
    assert set(ways) == set(TOWARDS) and max(ways.values()) / ways.total() < 0.35


def test_counts_are_right_and_a_wrong_task_is_named():
    for one, known in zip(STORIES, KNOWN, strict=True):
        by_text = {q.text: int(q.answer) for q in asked_of_clip(known, "count", random.Random(3))}
        gone = sum(event.action == "vanish" for event in one.events)
        start, end, appear = (
            next(v for text, v in by_text.items() if word in text) for word in ("start", "end", "appear")
        )
        assert appear == len(one.appearing) and end == start + appear - gone == len(one.kinds) - gone
    assert set(CLIP_TASKS) >= {"event", "order", "direction", "existence", "count", "who_first"}
    with pytest.raises(UserError, match="did you mean 'order'"):
        asked_of_clip(KNOWN[0], "ordre", random.Random(0))
