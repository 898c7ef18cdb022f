"""What the language model learns behind one picture: questions with full-sentence answers, and descriptions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_selfalign.data.world.language import plural
from vlm_selfalign.data.world.questions import Question, asked
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import COLOURS, WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.graft.telling import PROMPTS, told
from vlm_selfalign.graft.text_only import TextAnswer

Truth = Mapping[str, Any]

CLAIM = "Is the {kind} {colour}?"

OFTEN = {
    "claim": 0.6,
    "count": 1.0,
    "count_kind": 0.35,
    "position": 0.4,
    "in_place": 0.25,
    "relation": 0.3,
    "side": 0.1,
}
"""How often a picture is asked each thing, beside existence and colour, which it always is."""


@dataclass(frozen=True)
class Exchange:
    """A question and its answer; ``sees`` the picture or stands alone, ``is_text`` where it is a description."""

    question: str
    answer: str
    sees: bool = True
    is_text: bool = False


def exchanges(
    scene: Scene,
    dials: WorldSettings,
    chance: random.Random,
    describe: float,
    texts: Sequence[TextAnswer] = (),
    colours: tuple[int, int] = (1, 2),
) -> list[Exchange]:
    """Everything asked of one picture; ``describe``: how often a description, ``texts``: what to ask without it."""
    known = truth(scene, dials)
    found = [*_existence(known, chance), *_asked(known, "colour", chance, chance.choice(colours))]
    for task, share in OFTEN.items():
        if chance.random() < share:
            found += _claims(known, chance) if task == "claim" else _asked(known, task, chance, 1)
    if chance.random() < describe:
        found.append(Exchange(chance.choice(PROMPTS), told(scene, chance), is_text=True))
    if texts and chance.random() < 0.5:
        one = chance.choice(texts)
        found.append(Exchange(one.prompt, one.answer, sees=False, is_text=True))
    chance.shuffle(found)
    # Texts first: they are long, and the last ones may find no room (packing.ROOM).
    return sorted(found, key=lambda one: not one.is_text)


def _existence(known: Truth, chance: random.Random) -> list[Exchange]:
    tasks = chance.sample(["existence_random", "existence_adversarial"], chance.choice((1, 2)))
    return [exchange for task in tasks for exchange in _asked(known, task, chance, 1)]


def _asked(known: Truth, task: str, chance: random.Random, count: int) -> list[Exchange]:
    return [Exchange(q.text, sentence(q)) for q in asked(known, task, chance, count=count)]


def _claims(known: Truth, chance: random.Random) -> list[Exchange]:
    """Whether an object is of its colour, and whether it is of another."""
    item = chance.choice(known["objects"])
    wrong = chance.choice([colour for colour in COLOURS if colour != item["colour"]])
    kind, right = item["kind"], item["colour"]
    if known["counts"][kind] > 1:
        return []
    pairs = ((right, "Yes"), (wrong, "No"))
    return [Exchange(CLAIM.format(kind=kind, colour=said), f"{word}, the {kind} is {right}.") for said, word in pairs]


def sentence(question: Question) -> str:
    """A full sentence that answers, as a chat model speaks; the first yes, no, number or colour in it is the answer."""
    kind, right = question.kind, question.answer
    if question.task.startswith("existence"):
        return f"Yes, there is a {kind} in the image." if right == "Yes" else f"No, there is no {kind} in the image."
    match question.task:
        case "colour":
            one = question.text.endswith(f"the {kind}?")
            return f"The {kind} is {right}." if one else f"The {plural(kind)} are {right}."
        case "count":
            return _there("object", "objects", right)
        case "count_kind":
            return _there(kind, plural(kind), right)
        case "position":
            return f"The {kind} is in the {right}."
        case "side":
            return right.capitalize() + "."
    return f"{right}."


def _there(one: str, many: str, number: str) -> str:
    return f"There is 1 {one} in the image." if number == "1" else f"There are {number} {many} in the image."
