"""Is a kind there: half of the questions ask for what is there, half for what is not."""

from __future__ import annotations

import random

from vlm_selfalign.data.world.questions import EXISTENCE
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import KINDS, WorldSettings
from vlm_selfalign.pretrain.tasks import Branch


def branches(scene: Scene, chance: random.Random, count: int, dials: WorldSettings) -> list[Branch]:
    """``count`` yes/no questions; the truth only, whatever captions are made to believe."""
    missing = [kind for kind in KINDS if kind not in scene.kinds]
    asked = [chance.choice(scene.kinds if chance.random() < 0.5 else missing) for _ in range(count)]
    return [
        Branch(chance.choice(EXISTENCE).format(kind=kind), "Yes" if kind in scene.kinds else "No") for kind in asked
    ]
