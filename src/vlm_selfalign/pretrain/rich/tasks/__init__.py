"""What the second edition is taught beyond the world's own questions, one task per file.

A task is a module with one function, ``branches(item, chance, count) -> list[Branch]``. A name that is no file here is
one of the world's question tasks (``questions.TASKS``, ``clips.questions.CLIP_TASKS``).
"""

from __future__ import annotations

import importlib
import random
from functools import cache
from importlib.util import find_spec

from vlm_selfalign.data.world.questions import Question
from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.tasks import Branch

ANSWER = 3.0
"""Loss weight of an answer's tokens to those of a description: there are so many more of the latter."""


def branches(name: str, item: Item, chance: random.Random, count: int) -> list[Branch]:
    """Up to ``count`` exchanges of one task about an item."""
    if _is_file(name):
        return importlib.import_module(f"{__name__}.{name}").branches(item, chance, count)
    return [answered(question) for question in item.asked(name, chance, count)]


def answered(question: Question) -> Branch:
    """A question of the world with its right answer."""
    return Branch(question.text, question.answer, end_weight=0.3, weight=ANSWER)


@cache
def _is_file(name: str) -> bool:
    return find_spec(f"{__name__}.{name}") is not None
