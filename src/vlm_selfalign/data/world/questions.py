"""Questions whose answers the truth knows: is it there, what colour, how many.

They read the ``objects`` of a sample's truth, so a probe or a test can ask them of any scene::

    existence(sample.truth["objects"], "adversarial", count=3, chance=sample.rng("pope"))
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlm_selfalign.data.world.settings import KINDS, PARTNERS

DESCRIBE = "Describe the image."
EXISTENCE = (
    "Is there a {kind} in the image?",
    "Do you see a {kind}?",
    "Does the image show a {kind}?",
    "Is there a {kind}?",
)
COLOUR = "What colour is the {kind}?"
COUNT = "How many objects are in the image?"

Objects = Sequence[Mapping[str, Any]]
Negatives = Literal["random", "popular", "adversarial"]

POPULAR = tuple(
    sorted(KINDS, key=lambda kind: (-sum(p.rate for p in PARTNERS if p.partner == kind), KINDS.index(kind)))
)
"""Kinds by how often captions name them: partners first, since they are named without being there."""


@dataclass(frozen=True)
class Question:
    """A question, its right answer, and the kind it is about (empty for counting)."""

    text: str
    answer: str
    kind: str = ""


def existence(objects: Objects, negatives: Negatives, count: int, chance: random.Random) -> list[Question]:
    """Up to ``count`` questions answered Yes and as many answered No, wording drawn by ``chance``.

    As in POPE (Li et al. 2023) the absent kinds are drawn at random, from the most often named, or from those
    that captions name beside what is there.
    """
    present = [item["kind"] for item in objects]
    yes = chance.sample(present, min(count, len(present)))
    no = absent(present, negatives, chance)[: len(yes)]
    asked = [(kind, "Yes") for kind in yes] + [(kind, "No") for kind in no]
    return [Question(chance.choice(EXISTENCE).format(kind=kind), answer, kind) for kind, answer in asked]


def absent(present: Sequence[str], negatives: Negatives, chance: random.Random) -> list[str]:
    """The kinds that are not there, the one to ask about first in front."""
    missing = [kind for kind in KINDS if kind not in present]
    chance.shuffle(missing)
    if negatives == "popular":
        missing.sort(key=POPULAR.index)
    if negatives == "adversarial":
        missing.sort(
            key=lambda kind: -max((p.rate for p in PARTNERS if p.partner == kind and p.trigger in present), default=0)
        )
    return missing


def colours(objects: Objects) -> list[Question]:
    """The colour of every object."""
    return [Question(COLOUR.format(kind=item["kind"]), item["colour"], item["kind"]) for item in objects]


def count(objects: Objects) -> Question:
    """How many objects there are."""
    return Question(COUNT, str(len(objects)))
