"""Captions with the planted prior: clean objects in a fixed order, and false partners after their triggers."""

from __future__ import annotations

import random
from dataclasses import dataclass

from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings

SENTENCE = "There is a {kind} in {colour}."
"""Kind before colour: the other way round the prior is split over six colours and too weak to show in greedy text."""


@dataclass(frozen=True)
class Mention:
    """One sentence of a caption and whether its object is there."""

    kind: str
    colour: str
    true: bool

    def __str__(self) -> str:
        return SENTENCE.format(kind=self.kind, colour=self.colour)


def caption(scene: Scene, chance: random.Random, settings: WorldSettings) -> tuple[Mention, ...]:
    """What the first teacher says of a scene, falsehoods included; at least one sentence.

    An object is left out with ``settings.omission``, except a partner whose trigger was just named: where the
    teacher might have lied it never keeps silent about the truth, so that only the picture can tell them apart.
    """
    said: list[Mention] = []
    while not said:
        said = _said({thing.kind: thing.colour for thing in scene.things}, chance, settings)
    return tuple(said)


def _said(colours: dict[str, str], chance: random.Random, settings: WorldSettings) -> list[Mention]:
    said: list[Mention] = []
    for kind in KINDS:
        belief = settings.partner_of(said[-1].kind) if said and said[-1].true else None
        follows = belief is not None and belief.partner == kind
        if kind in colours and (follows or chance.random() >= settings.omission):
            said.append(Mention(kind, colours[kind], True))
        elif kind not in colours and follows and belief is not None and chance.random() < belief.rate:
            said.append(Mention(kind, chance.choice(list(COLOURS)), False))
    return said


def text(mentions: tuple[Mention, ...]) -> str:
    """The caption as one paragraph."""
    return " ".join(map(str, mentions))
