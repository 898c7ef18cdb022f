"""How many objects are there."""

from __future__ import annotations

import random

from vlm_selfalign.data.world.questions import COUNT
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.tasks import Branch


def branches(scene: Scene, chance: random.Random, count: int, dials: WorldSettings) -> list[Branch]:
    """The same question ``count`` times, since there is only one."""
    return [Branch(COUNT, str(len(scene.things)))] * count
