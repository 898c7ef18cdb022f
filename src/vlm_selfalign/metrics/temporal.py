"""How far descriptions of clips are from what happens: event CHAIR, recall, order, direction, and clips backwards.

::

    told = narrate([("clip 1", "The car moves left. Then a ball appears.", truth)], Vocabulary.load("world"), words)
    event_measures(told)["event_chair_i"].value

Items belong to clips: an interval resamples clips, never events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from vlm_selfalign.core.registry import metric
from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import EventClaim, read_events
from vlm_selfalign.scoring.happenings import (
    Happening,
    borne_out,
    came_first,
    events_of,
    happened,
    is_part,
    told_in_reverse,
)
from vlm_selfalign.scoring.vocabulary import Vocabulary


@dataclass(frozen=True)
class Narrated:
    """One description of a clip: the event claims read out of it, and the events that happen."""

    clip: str
    text: str
    claims: tuple[EventClaim, ...]
    events: tuple[Happening, ...]
    words: EventWords

    @cached_property
    def told(self) -> tuple[EventClaim, ...]:
        """What it says happened, in the order it says so; at the same time: in the order of the words."""
        return tuple(sorted((c for c in self.claims if not c.negated), key=lambda claim: (claim.when, claim.start)))

    @cached_property
    def places(self) -> list[int | None]:
        """For each of ``told``, the event that bears it out and bore out none before it."""
        return borne_out(self.told, self.events, self.words)

    def is_false(self, claim: EventClaim) -> bool:
        """Whether nothing of the kind happened."""
        return not happened(claim, self.events, self.words)

    def only(self, claim: EventClaim) -> int | None:
        """The event that alone bears a claim out; None when none or several do."""
        found = [place for place, event in enumerate(self.events) if is_part(claim, event, self.words)]
        return found[0] if len(found) == 1 else None


def narrate(texts: Iterable[tuple[str, str, Any]], vocabulary: Vocabulary, words: EventWords) -> list[Narrated]:
    """Read the events of (clip, text, truth) triples, once for all metrics. ``truth``: see ``scoring.happenings``."""
    return [
        Narrated(clip, text, read_events(text, vocabulary, words), tuple(events_of(truth)), words)
        for clip, text, truth in texts
    ]


def event_chair_i(narrated: Iterable[Narrated]) -> Measure:
    """Events told that did not happen over all events told: CHAIR_i (Rohrbach et al. 2018) of events.

    Who did not do it, did not do it that way or not with that other one makes it false; what is left open does not.
    """
    items = [Item(one.clip, sum(map(one.is_false, one.told)), len(one.told)) for one in narrated]
    return Measure.of("event_chair_i", items, True)


def event_chair_s(narrated: Iterable[Narrated]) -> Measure:
    """Clips with a false event over all clips, those of which no event is told included (CHAIR_s of events)."""
    return _per_clip("event_chair_s", narrated, lambda one: any(map(one.is_false, one.told)), True)


def event_recall(narrated: Iterable[Narrated]) -> Measure:
    """Events told over events that happen, pooled; one claim bears out one event."""
    items = [Item(one.clip, len([p for p in one.places if p is not None]), len(one.events)) for one in narrated]
    return Measure.of("event_recall", items)


def order_accuracy(narrated: Iterable[Narrated]) -> Measure:
    """Pairs of true events told in the right order over all pairs of them told one after the other.

    Pairs that began together, or are told as at the same time, count nowhere: no order is known or claimed. Nor do
    claims that several events bear out ("the car moves" of one that moves twice): which of them is meant is unknown.
    """
    items = []
    for one in narrated:
        true = [(claim.when, place) for claim in one.told if (place := one.only(claim)) is not None]
        asked = [came_first(a, b, one.events) for (x, a), (y, b) in combinations(true, 2) if x != y and a != b]
        known = [right for right in asked if right is not None]
        items.append(Item(one.clip, sum(known), len(known)))
    return Measure.of("order_accuracy", items)


def wrong_direction(narrated: Iterable[Narrated]) -> Measure:
    """Wrong directions over the directions said of what did happen, one way or another."""
    items = []
    for one in narrated:
        said = [c for c in one.told if c.direction and not one.is_false(c.model_copy(update={"direction": None}))]
        items.append(Item(one.clip, sum(map(one.is_false, said)), len(said)))
    return Measure.of("wrong_direction", items, True)


def false_event_denials(narrated: Iterable[Narrated]) -> Measure:
    """Events denied although they happened, over all denials."""
    items = []
    for one in narrated:
        denials = [claim for claim in one.claims if claim.negated]
        items.append(Item(one.clip, sum(not one.is_false(claim) for claim in denials), len(denials)))
    return Measure.of("false_event_denials", items, True)


def events_told(narrated: Iterable[Narrated]) -> Measure:
    """Events told per clip."""
    return _per_clip("events_told", narrated, lambda one: len(one.told))


def events_unparsed(narrated: Iterable[Narrated]) -> Measure:
    """Descriptions in which no event could be read: neither false nor right, so their share must be seen."""
    return _per_clip("events_unparsed", narrated, lambda one: not one.claims, True)


def reversal_agreement(pairs: Iterable[tuple[Narrated, Narrated]]) -> Measure:
    """How far a clip and the same clip played backwards are told as each other's reverse; needs no truth.

    Pairs are (forwards, backwards); see ``told_in_reverse``. 1 for a model that sees time, low for one that tells
    what pictures without order suggest.
    """
    items = []
    for one, back in pairs:
        num, den = told_in_reverse(one.told, back.told, one.words)
        items.append(Item(one.clip, float(num), float(den)))
    return Measure.of("reversal_agreement", items)


def event_measures(narrated: Sequence[Narrated]) -> dict[str, Measure]:
    """All metrics of described clips by name."""
    measures = [measure(narrated) for measure in _ALL]
    return {measure.name: measure for measure in measures}


_ALL: tuple[Callable[[Sequence[Narrated]], Measure], ...] = (
    event_chair_i,
    event_chair_s,
    event_recall,
    order_accuracy,
    wrong_direction,
    false_event_denials,
    events_told,
    events_unparsed,
)

WITHOUT_TRUTH = frozenset(("events_told", "events_unparsed", "reversal_agreement"))
"""What can be measured of clips nobody has described."""


@metric
def clip_events(
    vocabulary: str = "world", events: str = "world"
) -> Callable[[Iterable[tuple[str, str, Any]]], dict[str, Measure]]:
    """All metrics of described clips, from (clip, text, truth) triples."""
    kinds, words = Vocabulary.load(vocabulary), EventWords.load(events)
    return lambda texts: event_measures(narrate(texts, kinds, words))


def _per_clip(
    name: str, narrated: Iterable[Narrated], count: Callable[[Narrated], float], lower_is_better: bool = False
) -> Measure:
    return Measure.of(name, [Item(one.clip, float(count(one)), 1) for one in narrated], lower_is_better)
