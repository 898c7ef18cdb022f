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
    names_colours: bool = False
    """Whether the kinds that an exchange names are asked for their colours; see ``asides``."""

    def mixture(self, item: Item) -> Mixture:
        """What is taught about an item."""
        return getattr(self, item.noun if item.medium == "text" else item.medium)


TELLING: Mapping[str, Mixture] = {
    "picture": {
        "describe": 2,
        "exists": 3,
        "colour": 2,
        "count": 2,
        "count_kind": 1,
        "position": 2,
        "in_place": 1,
        "relation": 2,
        "side": 2,
        "ask": 1,
        "blind": 0.1,
        "followup": 0.2,
    },
    "clip": {
        "describe": 2,
        "exists": 2,
        "colour": 1,
        "event": 1,
        "believed": 0.5,
        "order": 2,
        "which_first": 1,
        "who_first": 1,
        "direction": 2,
        "count": 1,
        "ask": 1,
        "blind": 0.1,
        "followup": 0.2,
    },
    "scene": {
        "exists": 2,
        "colour": 2,
        "count": 1,
        "count_kind": 1,
        "position": 2,
        "in_place": 1,
        "relation": 2,
        "side": 2,
        "ask": 1,
        "followup": 0.2,
        "arithmetic": 6,
    },
    "story": {
        "exists": 2,
        "colour": 2,
        "event": 1,
        "believed": 0.5,
        "order": 2,
        "which_first": 1,
        "who_first": 1,
        "direction": 2,
        "count": 1,
        "ask": 1,
        "followup": 0.2,
        "arithmetic": 6,
    },
}

READING: Mapping[str, Mixture] = {
    "picture": {"exists": 3, "colour": 2, "position": ALL, "in_place": 1, "relation": 1, "side": 1},
    "clip": {"exists": 2, "colour": 2, "direction": ALL, "event": 1, "order": 1, "who_first": 1},
    "scene": {"exists": 3, "colour": 3, "position": ALL, "in_place": 1, "relation": 1, "side": 1},
    "story": {"exists": 2, "colour": 2, "direction": ALL, "event": 1, "order": 1, "who_first": 1},
}
"""Where it is and which way it goes, of everything: what all comparing begins with."""

COMPARING: Mapping[str, Mixture] = {
    "picture": {"exists": 3, "colour": 2, "position": 3, "in_place": 2, "relation": 3, "side": 3, "count": 1}
    | {"count_kind": 1},
    "clip": {"exists": 2, "colour": 1, "direction": 3, "event": 2, "order": 3, "who_first": 2, "which_first": 1}
    | {"believed": 1, "count": 1},
    "scene": {"exists": 2, "colour": 2, "position": 3, "in_place": 2, "relation": 3, "side": 3, "count": 1}
    | {"count_kind": 1, "arithmetic": 6},
    "story": {"exists": 2, "colour": 2, "direction": 3, "event": 2, "order": 3, "who_first": 2, "which_first": 1}
    | {"believed": 1, "count": 1, "arithmetic": 6},
}

BINDING: Mapping[str, Mixture] = {
    "picture": COMPARING["picture"] | {"count": 2},
    "clip": COMPARING["clip"],
    "scene": {"colour": ALL, "position": 3, "in_place": 1, "relation": 2, "side": 2, "count": 1, "arithmetic": 8},
    "story": {"colour": ALL, "direction": 3, "event": 2, "order": 2, "which_first": 1, "count": 1, "arithmetic": 8},
}
"""Which colour belongs to which kind is the last thing that is learnt of texts."""

CURRICULUM = (
    Phase("read", 300, {"picture": 10, "clip": 5}, **READING),
    Phase("compare", 900, {"picture": 8, "clip": 5}, **COMPARING),
    Phase("texts", 1400, {"picture": 5, "clip": 4, "text": 6}, **COMPARING),
    Phase("bind", 1700, {"picture": 4, "clip": 3, "text": 8}, **BINDING),
    Phase("colours", 2050, {"picture": 4, "clip": 3, "text": 8}, **BINDING, names_colours=True),
    Phase("tell", 3200, {"picture": 6, "clip": 5, "text": 5}, **TELLING, names_colours=True),
)
"""Reading comes first, and of what is shown: mixed in from the start, texts and descriptions delay everything."""

FULL = 0.66
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
