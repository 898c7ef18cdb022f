"""Questions whose answers the truth knows: is it there, what colour, how many, where, how does it lie to another.

They read a sample's truth, so a probe or a test can ask them of any scene::

    existence(sample.truth["objects"], "adversarial", count=3, chance=sample.rng("pope"))
    asked(sample.truth, "relation", sample.rng("relation"))

Yes and no come in equal numbers and in any order, each wording is answered yes as often as no, and where a question
names two choices the right one stands first as often as second.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.data.world.language import RELATIONS, place, plural
from vlm_selfalign.data.world.settings import KINDS, PARTNERS, Partner

DESCRIBE = "Describe the image."
EXISTENCE = (
    "Is there a {kind} in the image?",
    "Do you see a {kind}?",
    "Does the image show a {kind}?",
    "Is there a {kind}?",
)
COLOUR = "What colour is the {kind}?"
COUNT = "How many objects are in the image?"
COLOUR_OF_ALL = "What colour are the {kinds}?"
COUNT_KIND = "How many {kinds} are in the image?"
POSITION = "Where is the {kind}?"
IN_PLACE = "Is the {kind} in the {place}?"
RELATION = "Is the {kind} {relation} the {other}?"
SIDE = "Is the {kind} {first} or {second} the {other}?"

Objects = Sequence[Mapping[str, Any]]
Negatives = Literal["random", "popular", "adversarial"]


@dataclass(frozen=True)
class Question:
    """A question, its right answer, and the kind it is about (empty for counting).

    ``hard``: why what it asks about is hard to see, if it is. ``choices``: the answers that the question itself names.
    ``pair``: the same for two questions of which one is true and one is its hallucinated twin.
    """

    text: str
    answer: str
    kind: str = ""
    task: str = ""
    hard: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    pair: str = ""


def existence(
    objects: Objects,
    negatives: Negatives,
    count: int,
    chance: random.Random,
    partners: Sequence[Partner] = PARTNERS,
) -> list[Question]:
    """Up to ``count`` questions answered Yes and as many answered No, wording drawn by ``chance``.

    As in POPE (Li et al. 2023) the absent kinds are drawn at random, from the most often named, or from those
    that captions name beside what is there.
    """
    present = list(dict.fromkeys(item["kind"] for item in objects))
    yes = chance.sample(present, min(count, len(present)))
    no = absent(present, negatives, chance, partners)[: len(yes)]
    asked = [(kind, "Yes") for kind in yes] + [(kind, "No") for kind in no]
    return [Question(chance.choice(EXISTENCE).format(kind=kind), answer, kind) for kind, answer in asked]


def absent(
    present: Sequence[str], negatives: Negatives, chance: random.Random, partners: Sequence[Partner] = PARTNERS
) -> list[str]:
    """The kinds that are not there, the one to ask about first in front."""
    missing = [kind for kind in KINDS if kind not in present]
    chance.shuffle(missing)
    if negatives == "popular":
        missing.sort(key=lambda kind: (-sum(p.rate for p in partners if p.partner == kind), KINDS.index(kind)))
    if negatives == "adversarial":
        missing.sort(
            key=lambda kind: -max((p.rate for p in partners if p.partner == kind and p.trigger in present), default=0)
        )
    return missing


def colours(objects: Objects) -> list[Question]:
    """The colour of every object."""
    return [Question(COLOUR.format(kind=item["kind"]), item["colour"], item["kind"]) for item in objects]


def count(objects: Objects) -> Question:
    """How many objects there are."""
    return Question(COUNT, str(len(objects)))


Truth = Mapping[str, Any]
Task = Callable[[Truth, random.Random, Sequence[Partner]], list[Question]]


def asked(
    known: Truth, task: str, chance: random.Random, partners: Sequence[Partner] = PARTNERS, count: int | None = None
) -> list[Question]:
    """Questions of one of the ``TASKS`` about a scene, from its complete truth; none where nothing can be asked.

    Yes/no questions come in pairs. ``count``: at most so many questions, or pairs of them.
    """
    if task not in TASKS:
        raise UserError(f"world: no task '{task}'{nearest(task, TASKS)}")
    found = TASKS[task](known, chance, partners)
    if task in YES_NO:
        pairs = [found[i : i + 2] for i in range(0, len(found), 2)]
        for pair in pairs:
            chance.shuffle(pair)
        return [question for pair in _some(pairs, count, chance) for question in pair]
    return _some(found, count, chance)


def _some(things: list[Any], count: int | None, chance: random.Random) -> list[Any]:
    return chance.sample(things, len(things) if count is None else min(count, len(things)))


def _existence(negatives: Negatives) -> Task:
    def task(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
        half = min(len(known["counts"]), len(KINDS) - len(known["counts"]))
        found = existence(known["objects"], negatives, half, chance, partners)
        both = [question for pair in zip(found[:half], found[half:], strict=True) for question in pair]
        why = _why(known)
        return [replace(q, task=f"existence_{negatives}", hard=why.get(q.kind, ())) for q in both]

    return task


def _colour(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
    by_kind = {item["kind"]: item["colour"] for item in known["objects"]}
    texts = {kind: COLOUR if known["counts"][kind] == 1 else COLOUR_OF_ALL for kind in by_kind}
    return [
        Question(texts[kind].format(kind=kind, kinds=plural(kind)), colour, kind, "colour", _why(known)[kind])
        for kind, colour in by_kind.items()
    ]


def _count(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
    everything = tuple(sorted({why for reasons in _why(known).values() for why in reasons}))
    return [replace(count(known["objects"]), task="count", hard=everything)]


def _count_kind(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
    """How many of each kind that is there, and of as many that are not as stand there alone: else 1 would be it."""
    counts = dict(known["counts"])
    counts |= dict.fromkeys(absent(list(counts), "random", chance)[: len(counts)], 0)
    why = _why(known)
    return [
        Question(COUNT_KIND.format(kinds=plural(kind)), str(number), kind, "count_kind", why.get(kind, ()))
        for kind, number in counts.items()
    ]


def _position(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
    return [
        Question(POSITION.format(kind=item["kind"]), item["place"], item["kind"], "position", tuple(item["hard"]))
        for item in _single(known)
    ]


def _in_place(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
    """The right place, and any wrong one."""
    cells = range(known["cells"])
    places = dict.fromkeys(place({"row": row, "col": col}, len(cells)) for row in cells for col in cells)
    found = []
    for item in _single(known):
        wrong = chance.choice([name for name in places if name != item["place"]])
        for name, answer in ((item["place"], "Yes"), (wrong, "No")):
            text = IN_PLACE.format(kind=item["kind"], place=name)
            found.append(Question(text, answer, item["kind"], "in_place", tuple(item["hard"])))
    return found


def _relation(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
    """Every relation that holds, and the same the other way round, which does not."""
    why, found = _why(known), []
    for first, name, second in known["relations"]:
        if name != "next to":
            for kind, other, answer in ((first, second, "Yes"), (second, first, "No")):
                text = RELATION.format(kind=kind, relation=RELATIONS[name], other=other)
                found.append(Question(text, answer, kind, "relation", tuple(sorted({*why[first], *why[second]}))))
    return found


def _side(known: Truth, chance: random.Random, partners: Sequence[Partner]) -> list[Question]:
    """Which of two opposite relations holds; either may be named first."""
    why, found = _why(known), []
    for first, name, second in known["relations"]:
        if name in OPPOSITE:
            ways = [name, OPPOSITE[name]]
            chance.shuffle(ways)
            text = SIDE.format(kind=first, other=second, first=_short(ways[0]), second=RELATIONS[ways[1]])
            hard = tuple(sorted({*why[first], *why[second]}))
            found.append(Question(text, _short(name), first, "side", hard, tuple(map(_short, ways))))
    return found


def _short(relation: str) -> str:
    return relation.removesuffix(" of")


def _single(known: Truth) -> list[Mapping[str, Any]]:
    """The objects that are the only ones of their kind."""
    return [item for item in known["objects"] if known["counts"][item["kind"]] == 1]


def _why(known: Truth) -> dict[str, tuple[str, ...]]:
    """Why each kind is hard to see; of several, what makes any of them hard."""
    found: dict[str, tuple[str, ...]] = {}
    for item in known["objects"]:
        found[item["kind"]] = tuple(sorted({*found.get(item["kind"], ()), *item["hard"]}))
    return found


OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

TASKS: dict[str, Task] = {
    "existence_random": _existence("random"),
    "existence_popular": _existence("popular"),
    "existence_adversarial": _existence("adversarial"),
    "colour": _colour,
    "count": _count,
    "count_kind": _count_kind,
    "position": _position,
    "in_place": _in_place,
    "relation": _relation,
    "side": _side,
}
"""Every task by its name."""

YES_NO = ("existence_random", "existence_popular", "existence_adversarial", "in_place", "relation")
"""Tasks of pairs, one answered Yes and one No."""
