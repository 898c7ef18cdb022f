"""The second turn of a chat: a question after a description or another question, about the same item."""

from __future__ import annotations

import random
from dataclasses import replace

from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.rich.tasks import answered, describe, exists
from vlm_selfalign.pretrain.rich.tasks.ask import question
from vlm_selfalign.pretrain.tasks import Branch


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` second turns; the first is only read, and a description may have its falsehoods."""
    return [_branch(item, chance) for _ in range(count)]


def _branch(item: Item, chance: random.Random) -> Branch:
    if item.medium != "text" and chance.random() < 0.6:
        (first,) = describe.branches(item, chance, 1)
    else:
        first = answered(question(item, chance))
    second = exists.branches(item, chance, 1)[0] if chance.random() < 0.5 else answered(question(item, chance))
    return replace(second, before=((first.question, first.answer),))
