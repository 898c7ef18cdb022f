"""Check an answer: say what is wrong with it, write it again, say whether it is right, or which of two is.

The requests are those of the methods that let a model judge itself (``scoring.judging``, ``scoring.revisions``).
"""

from __future__ import annotations

import random

from vlm_selfalign.data.world.clips.settings import STEPS
from vlm_selfalign.data.world.questions import Question
from vlm_selfalign.data.world.settings import COLOURS
from vlm_selfalign.pretrain.rich.items import Item
from vlm_selfalign.pretrain.rich.tasks import ANSWER
from vlm_selfalign.pretrain.rich.tasks.ask import question
from vlm_selfalign.pretrain.tasks import Branch
from vlm_selfalign.scoring.judging import BETTER, RIGHT
from vlm_selfalign.scoring.revisions import CRITICISE, REVISE

FINE = "no errors."
FAULT = "The answer should be: {answer}."
PLACES = tuple(f"{row} {side}" for row in ("top", "bottom") for side in ("left", "right"))
CHOICES = (("Yes", "No"), tuple(COLOURS), tuple(STEPS), PLACES)


def branches(item: Item, chance: random.Random, count: int) -> list[Branch]:
    """``count`` checks of right and wrong answers alike."""
    forms = chance.choices((_criticised, _revised, _judged, _preferred), (3, 2, 2, 3), k=count)
    return [form(question(item, chance), chance) for form in forms]


def _criticised(asked: Question, chance: random.Random) -> Branch:
    given = _given(asked, chance)
    return Branch(CRITICISE, _fault(asked, given), 1.0, weight=ANSWER, before=((asked.text, given),))


def _revised(asked: Question, chance: random.Random) -> Branch:
    given = _given(asked, chance)
    before = ((asked.text, given), (CRITICISE, _fault(asked, given)))
    return Branch(REVISE, asked.answer, 0.3, weight=ANSWER, before=before)


def _judged(asked: Question, chance: random.Random) -> Branch:
    given = _given(asked, chance)
    verdict = "Yes" if given == asked.answer else "No"
    return Branch(RIGHT.format(question=asked.text, answer=given), verdict, 0.3, weight=ANSWER)


def _preferred(asked: Question, chance: random.Random) -> Branch:
    both = [asked.answer, wrong(asked, chance)]
    chance.shuffle(both)
    text = BETTER.format(question=asked.text, first=both[0], second=both[1])
    return Branch(text, "AB"[both.index(asked.answer)], 0.3, weight=ANSWER)


def _given(asked: Question, chance: random.Random) -> str:
    return asked.answer if chance.random() < 0.5 else wrong(asked, chance)


def _fault(asked: Question, given: str) -> str:
    return FINE if given == asked.answer else FAULT.format(answer=asked.answer)


def wrong(asked: Question, chance: random.Random) -> str:
    """An answer of the same sort that is not the right one."""
    if asked.answer.isdigit():
        return str(chance.choice([n for n in range(7) if str(n) != asked.answer]))
    sort = asked.choices or next(choices for choices in CHOICES if asked.answer in choices)
    return chance.choice([answer for answer in sort if answer != asked.answer])
