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


TELLING: Mapping[str, Mixture] = {
    "picture": {
        "describe": 1,
        "exists": 3,
        "colour": 1,
        "count": 1,
        "count_kind": 1,
        "position": 2,
        "in_place": 1,
        "relation": 2,
        "side": 1,
        "ask": 1,
        "blind": 0.1,
        "followup": 0.2,
    },
    "clip": {
        "describe": 1,
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
        "exists": 1,
        "colour": 1,
        "count": 1,
        "count_kind": 1,
        "position": 1,
        "in_place": 1,
        "relation": 1,
        "side": 1,
        "ask": 0.5,
        "followup": 0.2,
        "arithmetic": 6,
    },
    "story": {
        "exists": 1,
        "colour": 1,
        "event": 1,
        "believed": 0.3,
        "order": 1,
        "which_first": 1,
        "who_first": 1,
        "direction": 1,
        "count": 1,
        "ask": 0.5,
        "followup": 0.2,
        "arithmetic": 6,
    },
}

CURRICULUM = (
    Phase(
        "read",
        385,
        {"picture": 6, "clip": 4, "text": 3},
        picture={"exists": 4, "colour": ALL, "position": 3, "in_place": 1, "count": 1, "relation": 1},
        clip={"exists": 2, "colour": 2, "direction": ALL, "event": 2, "order": 1, "who_first": 1},
        scene={"exists": 3, "colour": ALL, "position": 2, "in_place": 1, "arithmetic": 6},
        story={"exists": 3, "colour": 3, "direction": ALL, "event": 1, "arithmetic": 6},
    ),
    Phase("taste", 450, {"picture": 6, "clip": 4, "text": 3}, **TELLING),
    Phase(
        "place",
        650,
        {"picture": 6, "clip": 5, "text": 2},
        picture={"exists": 2, "colour": 1, "position": ALL, "count": 1, "relation": 1, "side": 1},
        clip={"exists": 1, "colour": 1, "direction": ALL, "event": 2, "order": 1},
        scene={"exists": 2, "colour": ALL, "position": 2, "arithmetic": 6},
        story={"exists": 2, "colour": 2, "direction": ALL, "event": 1, "arithmetic": 6},
    ),
    Phase("tell", 1050, {"picture": 6, "clip": 5, "text": 2}, **TELLING),
)
"""Reading cells comes first: with descriptions from the start yes/no stays at chance much longer."""

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
