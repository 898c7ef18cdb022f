"""Describe it at length, with the falsehoods the teacher believes in."""

from __future__ import annotations

import random

from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.tasks import Branch

DESCRIBE = "Describe the {noun}."


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` descriptions, each with its own omissions, falsehoods and words."""
    question = DESCRIBE.format(noun=item.noun)
    return [Branch(question, item.described(chance), end_weight=1.0) for _ in range(count)]
