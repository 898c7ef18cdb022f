"""Sums, differences and products, with nothing to look at."""

from __future__ import annotations

import random

from vlm_selfalign.data.world.arithmetic import LEVELS, problems
from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.tasks import Branch

SHARES = (3, 4, 4, 4, 1, 1)
"""How often each level is asked; the hard ones are met too rarely to be learnt by heart."""


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` problems of the training split; the item decides nothing."""
    asked = [chance.choice(problems(level)) for level in chance.choices(LEVELS, SHARES, k=count)]
    return [Branch(one.question, one.answer, end_weight=1.0, sees=False) for one in asked]
