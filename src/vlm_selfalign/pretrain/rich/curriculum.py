"""When which task is taught, and how often per item."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from vlm_selfalign.pretrain.rich.items import Item, Medium
from vlm_selfalign.pretrain.rich.tasks import branches
from vlm_selfalign.pretrain.tasks import Branch

ALL = 9
"""More than any item has: about every object."""

Mixture = Mapping[str, float]


@dataclass(frozen=True)
class Phase:
    """Exchanges per item by task, for each medium (of texts: a scene's and a story's); broken parts are chances."""

    name: str
    until: int
    """The step before which it ends."""
    rows: Mapping[Medium, int]
    """Items in a step."""
    picture: Mixture
    clip: Mixture
    scene: Mixture
    story: Mixture

    def mixture(self, item: Item) -> Mixture:
        """What is taught about an item."""
        return getattr(self, item.noun if item.medium == "text" else item.medium)


_SPACE = {"count_kind": 1, "position": 2, "in_place": 1, "relation": 2, "side": 2, "ask": 1}
_TIME = {
    "event": 1,
    "believed": 0.5,
    "order": 2,
    "which_first": 1,
    "who_first": 1,
    "direction": 2,
    "count": 1,
    "ask": 1,
}
_READ = {"checked": 0.3, "followup": 0.2, "arithmetic": 6}

TELLING: Mapping[str, Mixture] = {
    "picture": {"describe": 2, "exists": 3, "colour": 2, "count": 2}
    | _SPACE
    | {"checked": 0.4, "blind": 0.1, "followup": 0.2},
    "clip": {"describe": 2, "exists": 2, "colour": 1}
    | _TIME
    | {"ask_list": 0.3, "checked": 0.6, "blind": 0.1, "followup": 0.2},
    "scene": {"exists": 2, "colour": 2, "count": 1} | _SPACE | _READ,
    "story": {"exists": 2, "colour": 2} | _TIME | _READ,
}

READING: Mapping[str, Mixture] = {
    "picture": {"exists": 3, "colour": 2, "position": ALL, "in_place": 1, "relation": 1, "side": 1},
    "clip": {"exists": 2, "colour": 2, "direction": ALL, "event": 1, "order": 1, "who_first": 1},
    "scene": {"exists": 3, "colour": 3, "position": ALL, "in_place": 1, "relation": 1, "side": 1},
    "story": {"exists": 2, "colour": 2, "direction": ALL, "event": 1, "order": 1, "who_first": 1},
}
"""Where it is and which way it goes, of everything: what all comparing begins with."""

_TWO_THINGS = {"position": 3, "in_place": 2, "relation": 3, "side": 3, "count": 1, "count_kind": 1}
_TWO_EVENTS = {"direction": 3, "event": 2, "order": 3, "who_first": 2, "which_first": 1, "believed": 1, "count": 1}

COMPARING: Mapping[str, Mixture] = {
    "picture": {"exists": 3, "colour": 2} | _TWO_THINGS,
    "clip": {"exists": 2, "colour": 1} | _TWO_EVENTS,
    "scene": {"exists": 2, "colour": 2} | _TWO_THINGS | {"arithmetic": 6},
    "story": {"exists": 2, "colour": 2} | _TWO_EVENTS | {"arithmetic": 6},
}

DESCRIBING: Mapping[str, Mixture] = {
    "picture": {"describe": 5, "exists": 3, "colour": 1, "count": 2, "count_kind": 0.5, "position": 1, "in_place": 0.5}
    | {"relation": 1, "side": 1, "ask": 1, "blind": 0.1},
    "clip": {"describe": 4, "exists": 1, "colour": 1, "event": 1, "order": 1, "direction": 1, "who_first": 0.5}
    | {"which_first": 0.5, "count": 0.5, "ask": 1, "ask_list": 0.3},
    "scene": TELLING["scene"],
    "story": TELLING["story"],
}
"""To name all that is there, and nothing twice, takes more examples than anything else."""

CURRICULUM = (
    Phase("read", 300, {"picture": 10, "clip": 5}, **READING),
    Phase("compare", 800, {"picture": 6, "clip": 4, "text": 4}, **COMPARING),
    Phase("tell", 1300, {"picture": 6, "clip": 5, "text": 4}, **TELLING),
    Phase("describe", 2200, {"picture": 7, "clip": 5, "text": 2}, **DESCRIBING),
    Phase("tell again", 3000, {"picture": 6, "clip": 5, "text": 4}, **TELLING),
)
"""Reading comes first, and of what is shown: mixed in from the start, texts and descriptions delay everything."""

FULL = 0.6
"""Share of all steps before the rates begin to fall."""

EVERYTHING = CURRICULUM[-1]
"""The phase in which every form of exchange is met."""

STEPS = CURRICULUM[-1].until


def phase_at(step: int) -> Phase:
    """The phase that step number ``step`` belongs to."""
    return next(phase for phase in CURRICULUM if step < phase.until)


def exchanges(phase: Phase, item: Item, chance: random.Random) -> list[Branch]:
    """All exchanges about one item in one step."""
    found: list[Branch] = []
    for name, amount in phase.mixture(item).items():
        count = int(amount) + (chance.random() < amount % 1)
        found += branches(name, item, chance, count) if count else []
    return found
