"""English for events: many clauses for each, and ways to chain two so that what is told first need not come first.

A clause has no capital and no full stop; {subject} is "the red boat" or "a red boat", as it was seen before or not::

    CLAUSES["move"]["goes"].write(event, "the boat")       # "the boat goes to the left"
    CHAINS["before"].format(first=..., second=...)         # "before {second}, {first}"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlm_selfalign.data.world.clips.settings import Action, Direction

TOWARDS: dict[Direction, str] = {"left": "to the left", "right": "to the right", "up": "up", "down": "down"}

Happening = Mapping[str, Any]
"""An event as in a clip's truth: action, kind, direction, other."""


@dataclass(frozen=True)
class EventClaim:
    """What a clause says: who does what, which way and with whom (None: it does not say); where something appears."""

    action: Action
    kind: str
    direction: Direction | None = None
    other: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Clause:
    """A clause form: {subject}, {towards}, {other} (with its article) and {place} as it needs them."""

    template: str

    def write(self, event: Happening, subject: str, other: str = "", place: str = "") -> str:
        """The clause for one event."""
        towards = TOWARDS.get(event["direction"], "")
        return self.template.format(subject=subject, towards=towards, other=other, place=place)

    def claim(self, event: Happening, place: str = "") -> EventClaim:
        """What it says of the event."""
        said = {name: f"{{{name}}}" in self.template for name in ("towards", "other", "place")}
        return EventClaim(
            event["action"],
            event["kind"],
            direction=event["direction"] if said["towards"] else None,
            other=event["other"] if said["other"] else None,
            place=place if said["place"] else None,
        )


def _clauses(**templates: str) -> dict[str, Clause]:
    return {name: Clause(template) for name, template in templates.items()}


CLAUSES: dict[Action, dict[str, Clause]] = {
    "move": _clauses(
        moves="{subject} moves {towards}",
        goes="{subject} goes {towards}",
        drifts="{subject} drifts {towards}",
        slides="{subject} slides {towards}",
        travels="{subject} travels {towards}",
        starts="{subject} starts to move {towards}",
        can_be_seen="{subject} can be seen moving {towards}",
        makes="{subject} makes its way {towards}",
    ),
    "meet": _clauses(
        meets="{subject} meets {other}",
        moves_and_meets="{subject} moves {towards} and meets {other}",
        touches="{subject} goes {towards} until it touches {other}",
        bumps="{subject} bumps into {other}",
        reaches="{subject} moves {towards} and reaches {other}",
        comes="{subject} comes up to {other}",
    ),
    "appear": _clauses(
        appears="{subject} appears",
        appears_in="{subject} appears in the {place}",
        shows_up="{subject} shows up",
        comes_into="{subject} comes into view",
        turns_up="{subject} turns up in the {place}",
        can_now="{subject} can now be seen in the {place}",
        enters="{subject} enters the scene",
    ),
    "vanish": _clauses(
        vanishes="{subject} vanishes",
        disappears="{subject} disappears",
        fades="{subject} fades away",
        leaves="{subject} leaves the scene",
        is_gone="{subject} melts into the background",
    ),
}

OPENERS = ("at first there is {things}", "in the beginning one can see {things}", "the clip starts with {things}")
"""Says what is there at the start; "there is a boat" holds of several too, as in speech."""

FIRST = ("first, {first}", "{first}", "to begin with, {first}")
NEXT = (
    "then {first}",
    "after that, {first}",
    "next, {first}",
    "{first}",
    "a moment later {first}",
    "now {first}",
    "later {first}",
)
LAST = ("finally, {first}", "in the end {first}", "at last {first}")
"""One event: the first, a later one, the last one."""

CHAINS = {
    "and_then": "{first}, and then {second}",
    "after": "after {first}, {second}",
    "before": "before {second}, {first}",
    "only_after": "{second} after {first}",
    "told_first": "{first} before {second}",
    "once": "once {first}, {second}",
}
"""Two events in one sentence: ``first`` happens before ``second``, whichever is told first."""

STILL = ("the {kind} does not move", "the {kind} stays where it is", "nothing happens to the {kind}")
"""About an object to which nothing happens."""


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[0].upper() + text[1:] + "."


def listed(names: list[str]) -> str:
    """``a boat``, ``a boat and a cup``, ``a boat, a cup and a star``."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
