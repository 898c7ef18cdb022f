"""When which task is taught, and how often per picture."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.tasks import Branch, task

ALL = 99
"""More than any scene has: every object."""


@dataclass(frozen=True)
class Phase:
    """A mixture of tasks: exchanges per picture by task name; the broken part of a number is a chance.

    The phase begins at step ``start`` or, where ``existence`` is given, once that accuracy was measured.
    """

    name: str
    mixture: dict[str, float] = field(default_factory=dict)
    start: int | None = None
    existence: float | None = None


CURRICULUM = (
    Phase("read", {"existence": 6, "colour": ALL}, start=0),
    Phase(
        "tell", {"existence": 3, "colour": 1, "count": 1, "describe": 2, "blind": 0.2, "followup": 0.3}, existence=0.93
    ),
)
"""Reading cells comes first: with captions from the start yes/no stays at chance much longer."""

SYSTEMS = ("You are a helpful assistant.", "Be brief.", "Say only what you see.", "Answer with Yes or No.")


def phase_at(step: int, current: int, existence: float, curriculum: tuple[Phase, ...] = CURRICULUM) -> int:
    """Which phase step ``step`` belongs to; phases never go back."""
    for index in range(len(curriculum) - 1, current, -1):
        phase = curriculum[index]
        by_step = phase.start is not None and step >= phase.start
        by_skill = phase.existence is not None and existence >= phase.existence and index == current + 1
        if by_step or by_skill:
            return index
    return current


def system_turn(chance: random.Random) -> str:
    """What a row's system turn says: mostly nothing; only that such a turn is no surprise is learnt."""
    return chance.choice(SYSTEMS) if chance.random() < 0.1 else ""


def exchanges(phase: Phase, scene: Scene, chance: random.Random, dials: WorldSettings) -> list[Branch]:
    """All exchanges about one scene in one step."""
    found: list[Branch] = []
    for name, amount in phase.mixture.items():
        count = int(amount) + (chance.random() < amount % 1)
        found += task(name).branches(scene, chance, count, dials) if count else []
    if not found:
        raise UserError(f"pretrain: phase '{phase.name}' teaches nothing about a scene")
    return found
