"""What really happens in a clip, where it is known, and which event claims it bears out.

A truth says ``{"events": [{"action": "move", "kind": "boat", "direction": "right", "other": null, "start": 0.2,
"end": 1.1}, ...]}``: ``kind`` is who does it, ``other`` whom it meets, times are seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.scoring.event_words import EventWords


@dataclass(frozen=True)
class Happening:
    """One event of the truth; without times (None) its place in the list is all that is known of its order."""

    action: str
    subject: str
    direction: str | None = None
    other: str | None = None
    start: float | None = None
    end: float | None = None

    @property
    def said(self) -> tuple[str, str, str | None, str | None]:
        """Subject, action, direction, other: what questions and names are made of."""
        return self.subject, self.action, self.direction, self.other


class Said(Protocol):
    """What can be held against the truth: an event claim, or another event."""

    @property
    def action(self) -> str:
        """What is done."""
        ...

    @property
    def subject(self) -> str:
        """Who does it."""
        ...

    @property
    def direction(self) -> str | None:
        """Which way, where that is said."""
        ...

    @property
    def other(self) -> str | None:
        """Whom it is done with, where that is said."""
        ...


def events_of(truth: Any) -> list[Happening]:
    """The events of a truth in their order; none where it holds no list of them.

    Raises ``UserError`` naming the event and key that is wrong.
    """
    found = truth.get("events") if isinstance(truth, Mapping) else None
    return [_happening(event, place) for place, event in enumerate(found)] if isinstance(found, list | tuple) else []


def knows_events(truth: Any) -> bool:
    """Whether the truth says what happens, be it nothing."""
    return isinstance(truth, Mapping) and isinstance(truth.get("events"), list | tuple)


def _happening(event: Any, place: int) -> Happening:
    if not isinstance(event, Mapping):
        raise UserError(f"truth.events[{place}]: {event!r:.60} is not an object with action and kind")
    for key, optional, kinds in _KEYS:
        value = event.get(key)
        if not (optional and value is None) and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise UserError(f"truth.events[{place}].{key}: {value!r:.60} is no {_NAMES[kinds]}; correct the truth")
    rest = (event.get(name) for name in ("direction", "other", "start", "end"))
    return Happening(event["action"], event["kind"], *rest)


_KEYS: tuple[tuple[str, bool, Any], ...] = (
    ("action", False, str),
    ("kind", False, str),
    ("direction", True, str),
    ("other", True, str),
    ("start", True, (int, float)),
    ("end", True, (int, float)),
)
_NAMES: dict[Any, str] = {str: "text", (int, float): "number of seconds"}


def is_part(said: Said, whole: Happening, words: EventWords) -> bool:
    """Whether an event bears out what is said: all that is said holds of it.

    Who meets somebody that way has moved that way too; of two that meet either may be named first.
    """
    if said.action not in words.happens_too(whole.action):
        return False
    if said.direction and (said.direction, said.subject) != (whole.direction, whole.subject):
        return False
    if said.action != whole.action or whole.other is None:
        return said.subject == whole.subject and (said.other is None or said.other == whole.other)
    pair = {whole.subject, whole.other}
    return said.subject in pair if said.other is None else {said.subject, said.other} == pair


def happened(said: Said, events: Sequence[Happening], words: EventWords) -> bool:
    """Whether any event bears it out."""
    return any(is_part(said, whole, words) for whole in events)


def borne_out(said: Sequence[Said], events: Sequence[Happening], words: EventWords) -> list[int | None]:
    """For each thing said, in that order, the first event that bears it out and none before did; None without one."""
    free = list(range(len(events)))
    found: list[int | None] = []
    for one in said:
        place = next((i for i in free if is_part(one, events[i], words)), None)
        if place is not None:
            free.remove(place)
        found.append(place)
    return found


def came_first(one: int, two: int, events: Sequence[Happening]) -> bool | None:
    """Whether event number ``one`` began before ``two``; None when they began together."""
    starts = events[one].start, events[two].start
    if starts[0] is None or starts[1] is None:
        return one < two
    return None if starts[0] == starts[1] else starts[0] < starts[1]


def backwards(events: Sequence[Happening], words: EventWords) -> list[Happening]:
    """The events of the clip played backwards, times left out: the last comes first, left becomes right, what
    appeared vanishes, who met somebody moves away from there.
    """
    turned = []
    for event in reversed(events):
        action, direction = words.backwards(event.action, event.direction)
        other = event.other if action == event.action else None
        turned.append(replace(event, action=action, direction=direction, other=other, start=None, end=None))
    return turned


def told_in_reverse(forwards: Sequence[Said], back: Sequence[Said], words: EventWords) -> tuple[int, int]:
    """How far two tellings are each other's reverse, as numerator and denominator: 2 |A and B|, |A| + |B|.

    A is what is told of a clip turned backwards, B what is told of the same clip played backwards. A meeting counts
    as its move alone: backwards it is one.
    """
    turned, told = Counter(backwards(_moves(forwards, words), words)), Counter(_moves(back, words))
    return 2 * (turned & told).total(), turned.total() + told.total()


def _moves(said: Sequence[Said], words: EventWords) -> list[Happening]:
    return [Happening(words.root(one.action), one.subject, one.direction) for one in said]
