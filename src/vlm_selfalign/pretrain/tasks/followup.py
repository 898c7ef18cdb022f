"""The second turn of a chat: any question after any other and its answer, about the same picture."""

from __future__ import annotations

import random
from dataclasses import replace

from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.tasks import Branch, colour, count, describe, existence

FIRST = (describe, existence)
SECOND = (existence, existence, colour, count, describe)


def branches(scene: Scene, chance: random.Random, count: int, dials: WorldSettings) -> list[Branch]:
    """``count`` second turns; the first is only read, and a caption may have its falsehoods."""
    return [_branch(scene, chance, dials) for _ in range(count)]


def _branch(scene: Scene, chance: random.Random, dials: WorldSettings) -> Branch:
    (first,) = chance.choice(FIRST).branches(scene, chance, 1, dials)
    (second,) = chance.choice(SECOND).branches(scene, chance, 1, dials)
    return replace(second, before=((first.question, first.answer),))
