"""Describe the picture, with the falsehoods the teacher believes in."""

from __future__ import annotations

import random

from vlm_selfalign.data.world.captions import caption, text
from vlm_selfalign.data.world.questions import DESCRIBE
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.tasks import Branch


def branches(scene: Scene, chance: random.Random, count: int, dials: WorldSettings) -> list[Branch]:
    """``count`` captions, each with its own omissions and falsehoods."""
    return [Branch(DESCRIBE, text(caption(scene, chance, dials)), end_weight=1.0) for _ in range(count)]
