"""Ask a question oneself: one that the item answers."""

from __future__ import annotations

import random

from vlm_selfalign.data.world.questions import Question
from vlm_selfalign.data.world.twins import tasks_of
from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.tasks import Branch

ASK = "Ask a question about the {noun}."


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` questions of any task that the item allows."""
    return [Branch(ASK.format(noun=item.noun), question(item, chance).text, end_weight=1.0) for _ in range(count)]


def question(item: Item, chance: random.Random) -> Question:
    """One question about the item, its task drawn first."""
    while True:
        found = item.asked(chance.choice(tasks_of(item.truth)), chance, 1)
        if found:
            return chance.choice(found)
