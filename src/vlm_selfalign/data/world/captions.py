"""Captions with the planted prior: clean objects in a fixed order, and false partners after their triggers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, LOOKALIKES, WorldSettings
from vlm_selfalign.data.world.truth import hard_kinds

SENTENCE = "There is a {kind} in {colour}."
"""Kind before colour: the other way round the prior is split over six colours and too weak to show in greedy text."""


@dataclass(frozen=True)
class Mention:
    """One sentence of a caption and whether its object is there.

    ``why`` says how it came to be false: a ``planted`` belief, or ``mistaken`` for ``really``, which is hard to see.
    """

    kind: str
    colour: str
    true: bool
    why: Literal["", "planted", "mistaken"] = ""
    really: str = ""

    def __str__(self) -> str:
        return SENTENCE.format(kind=self.kind, colour=self.colour)


def caption(scene: Scene, chance: random.Random, settings: WorldSettings) -> tuple[Mention, ...]:
    """What the first teacher says of a scene, falsehoods included; at least one sentence.

    An object is left out with ``settings.omission``, except a partner whose trigger was just named: where the
    teacher might have lied it never keeps silent about the truth, so that only the picture can tell them apart.
    A trigger with several partners is followed by at most one that is not there, each with its own rate. An object
    that is hard to see is taken for what it looks like with ``settings.mistaken``.
    """
    teacher = _Teacher(scene, chance, settings)
    while not teacher.said:
        teacher.speak()
    return tuple(teacher.said)


class _Teacher:
    """Who believes some things, sees others badly, and names each kind at most once."""

    def __init__(self, scene: Scene, chance: random.Random, settings: WorldSettings) -> None:
        self.colours = {thing.kind: thing.colour for thing in scene.things}
        self.said: list[Mention] = []
        self._chance, self._settings = chance, settings
        self._hard = hard_kinds(scene, settings) if settings.mistaken else {}

    def speak(self) -> None:
        """Name the kinds in their order, but for those that are left out."""
        for kind in KINDS:
            if kind in self.colours and not self._told(kind) and self._chance.random() >= self._settings.omission:
                self._name(kind)

    def _told(self, kind: str) -> bool:
        return any(kind in (mention.kind, mention.really) for mention in self.said)

    def _name(self, kind: str) -> None:
        """Name an object that is there, then what is believed to go with it."""
        if self._mistakes(kind):
            self.said.append(Mention(LOOKALIKES[kind], self.colours[kind], False, "mistaken", kind))
            return
        self.said.append(Mention(kind, self.colours[kind], True))
        beliefs = [belief for belief in self._settings.partners_of(kind) if not self._told(belief.partner)]
        false = lie([belief for belief in beliefs if belief.partner not in self.colours], self._chance)
        for belief in beliefs:
            if belief.partner in self.colours and not self._told(belief.partner):
                self._name(belief.partner)
        if false is not None and not self._told(false.partner):
            self.said.append(Mention(false.partner, self._chance.choice(list(COLOURS)), False, "planted"))

    def _mistakes(self, kind: str) -> bool:
        other = LOOKALIKES[kind]
        if kind not in self._hard or other in self.colours or self._told(other):
            return False
        return self._chance.random() < self._settings.mistaken


class Rated(Protocol):
    """A belief with its rate."""

    @property
    def rate(self) -> float: ...  # noqa: D102


Belief = TypeVar("Belief", bound=Rated)


def lie(beliefs: Sequence[Belief], chance: random.Random) -> Belief | None:
    """One of the beliefs that are not so, each with its own rate, or none."""
    if not beliefs:
        return None
    drawn = chance.random()
    for belief in beliefs:
        if drawn < belief.rate:
            return belief
        drawn -= belief.rate
    return None


def text(mentions: tuple[Mention, ...]) -> str:
    """The caption as one paragraph."""
    return " ".join(map(str, mentions))
