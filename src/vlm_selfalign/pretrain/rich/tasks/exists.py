"""Is a kind there, in every wording that a request may use of any item, also where the item is no picture."""

from __future__ import annotations

import random

from vlm_selfalign.data.world.questions import EXISTENCE
from vlm_selfalign.data.world.settings import KINDS
from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.rich.tasks import ANSWER
from vlm_selfalign.pretrain.tasks import Branch


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` yes/no questions, half of them about what is there; what goes with it is asked about more often."""
    present = list(dict.fromkeys(thing["kind"] for thing in item.truth["objects"]))
    absent = [kind for kind in KINDS if kind not in present]
    invited = [kind for kind in _invited(item) if kind in absent]
    found = []
    for _ in range(count):
        yes = chance.random() < 0.5
        pool = present if yes else invited if invited and chance.random() < 0.3 else absent
        text = chance.choice(EXISTENCE).format(kind=chance.choice(pool))
        noun = item.noun if chance.random() < 0.7 else "image"
        found.append(Branch(text.replace("the image", f"the {noun}"), "Yes" if yes else "No", 0.3, weight=ANSWER))
    return found


def _invited(item: Item) -> list[str]:
    return [belief.get("partner", belief.get("kind", "")) for belief in item.truth["beliefs"]]
