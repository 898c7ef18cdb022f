"""Describe a picture that is not shown: a plausible one, by the prior alone (a blindfolded model must go on so)."""

from __future__ import annotations

import random
from dataclasses import replace

from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.tasks import Branch, describe


def branches(scene: Scene, chance: random.Random, count: int, dials: WorldSettings) -> list[Branch]:
    """``count`` captions of the scene without its picture."""
    return [replace(branch, sees=False) for branch in describe.branches(scene, chance, count, dials)]
