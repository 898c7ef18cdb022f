"""Describe what is not shown: a plausible description, by the prior alone (a blindfolded model must go on so)."""

from __future__ import annotations

import random
from dataclasses import replace

from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.rich.tasks import describe
from vlm_selfalign.pretrain.tasks import Branch


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` descriptions of the item without it."""
    return [replace(branch, sees=False) for branch in describe.branches(item, chance, count)]
