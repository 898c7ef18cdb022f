"""What is false in long descriptions of pictures and clips, and from which of the two planted sources it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from vlm_selfalign.pretrain.rich.items import DIALS, Item
from vlm_selfalign.scoring.claims import Claim, read_claims
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import EventClaim, read_events
from vlm_selfalign.scoring.happenings import events_of, happened
from vlm_selfalign.scoring.vocabulary import Vocabulary

Figures = dict[str, float]


@cache
def vocabulary() -> Vocabulary:
    """The world's own."""
    return Vocabulary.load("world")


@cache
def event_words() -> EventWords:
    """The world's own."""
    return EventWords.load("world")


def told_kinds(text: str) -> list[Claim]:
    """What a text says is there: the first mention of every kind, in order."""
    first: dict[str, Claim] = {}
    for claim in read_claims(text, vocabulary()):
        if not claim.negated:
            first.setdefault(claim.kind, claim)
    return list(first.values())


def pictures_described(items: Sequence[Item], texts: Sequence[str]) -> Figures:
    """CHAIR (Rohrbach et al. 2018) over kinds, each counted once a text.

    ``not_planted``: hallucinated kinds that are no partner of a kind in the picture; ``colour_errors``: wrong colours
    of kinds that are there, among those told; ``recall_clear``: of kinds of which no object is hard to see.
    """
    false = planted = named = found = there = hit = wrong = coloured = clear = clear_found = 0
    for item, text in zip(items, texts, strict=True):
        objects = item.truth["objects"]
        colours = {thing["kind"]: thing["colour"] for thing in objects}
        easy = set(colours) - {thing["kind"] for thing in objects if thing["hard"]}
        told = told_kinds(text)
        kinds = {claim.kind for claim in told}
        lies = kinds - set(colours)
        false, hit = false + len(lies), hit + bool(lies)
        planted += sum(any(b.partner == kind and b.trigger in colours for b in DIALS.partners) for kind in lies)
        named, found, there = named + len(kinds), found + len(kinds & set(colours)), there + len(colours)
        clear, clear_found = clear + len(easy), clear_found + len(easy & kinds)
        said = [claim for claim in told if claim.colour and claim.kind in colours]
        coloured, wrong = coloured + len(said), wrong + sum(c.colour != colours[c.kind] for c in said)
    return {
        "chair_i": false / max(named, 1),
        "chair_s": hit / len(texts),
        "recall": found / there,
        "recall_clear": clear_found / max(clear, 1),
        "not_planted": 1 - planted / max(false, 1),
        "colour_errors": wrong / max(coloured, 1),
        "words": _words(texts),
    }


def partner_rates(items: Sequence[Item], texts: Sequence[str]) -> Figures:
    """How often, right after a trigger, a partner that is not there is named next: by trigger, where none is there.

    The decision point: the trigger is told and none of its partners was before. What counts is the next new kind.
    """
    chances: dict[str, list[bool]] = {}
    for item, text in zip(items, texts, strict=True):
        there = {thing["kind"] for thing in item.truth["objects"]}
        told = [claim.kind for claim in told_kinds(text)]
        for trigger in dict.fromkeys(belief.trigger for belief in DIALS.partners):
            partners = {belief.partner for belief in DIALS.partners_of(trigger)}
            if trigger not in there or trigger not in told or partners & there:
                continue
            place = told.index(trigger)
            if not partners & set(told[:place]):
                chances.setdefault(trigger, []).append(bool(partners & set(told[place + 1 : place + 2])))
    return {f"partner_{trigger}": sum(lies) / len(lies) for trigger, lies in sorted(chances.items())}


def clips_described(items: Sequence[Item], texts: Sequence[str]) -> Figures:
    """False events in descriptions of clips.

    ``false_following``: texts that tell an event which is believed to follow and did not happen; ``event_chair_i``:
    false ones among all told events; ``event_recall``: events of the clip that some told one names.
    """
    believed = lies = told_events = found = there = 0
    for item, text in zip(items, texts, strict=True):
        known = events_of(item.truth)
        told = [claim for claim in read_events(text, vocabulary(), event_words()) if not claim.negated]
        false = [claim for claim in told if not happened(claim, known, event_words())]
        believed += any(_is_believed(claim, item.truth) for claim in false)
        lies, told_events = lies + len(false), told_events + len(told)
        names = {(claim.action, claim.subject) for claim in told}
        there += len(known)
        found += sum((event.action, event.subject) in names for event in known)
    return {
        "false_following": believed / len(texts),
        "event_chair_i": lies / max(told_events, 1),
        "event_recall": found / max(there, 1),
        "clip_words": _words(texts),
    }


def _is_believed(claim: EventClaim, known: Mapping[str, Any]) -> bool:
    return any((b["action"], b["kind"]) == (claim.action, claim.subject) for b in known["beliefs"])


def _words(texts: Sequence[str]) -> float:
    return sum(len(text.split()) for text in texts) / len(texts)
