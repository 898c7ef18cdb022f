"""What colour is it: learning to read a cell is what makes yes/no questions learnable at all."""

from __future__ import annotations

import random

from vlm_selfalign.data.world.questions import COLOUR
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.tasks import Branch


def branches(scene: Scene, chance: random.Random, count: int, dials: WorldSettings) -> list[Branch]:
    """The colour of up to ``count`` different objects."""
    things = chance.sample(scene.things, min(count, len(scene.things)))
    return [Branch(COLOUR.format(kind=thing.kind), thing.colour) for thing in things]
