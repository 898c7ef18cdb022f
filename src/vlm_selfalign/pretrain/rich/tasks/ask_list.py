"""Ask several questions oneself, about a clip: where things are and what they look like, or what happens."""

from __future__ import annotations

import random

from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.tasks import Branch
from vlm_selfalign.scoring.self_asked import SPATIAL, TEMPORAL

ABOUT = {
    SPATIAL: ("existence", "colour", "count"),
    TEMPORAL: ("event", "believed", "order", "which_first", "who_first", "direction"),
}
MOST = 3


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` lists of up to three different questions that the clip answers, one on each line."""
    return [branch for _ in range(count) for branch in _list(item, chance)]


def _list(item: Item, chance: random.Random) -> list[Branch]:
    prompt = chance.choice(list(ABOUT))
    tasks = chance.choices(ABOUT[prompt], k=MOST)
    found = [question.text for task in tasks for question in item.asked(task, chance, 1)[:1]]
    texts = list(dict.fromkeys(found))
    return [Branch(prompt.format(count=len(texts)), "\n".join(texts), end_weight=1.0)] if texts else []
