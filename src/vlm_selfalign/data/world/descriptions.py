"""Long descriptions in varied English: what a caption names, with places, sizes, relations, numbers and doubts.

::

    told = describe(scene, chance, settings)
    told.text       # "There is a boat in red. In the top left there is a white fish. ..."
    told.false      # [False_("fish", "planted")]
    told.claims     # every claim of every sentence, in order

What is named, left out, believed and mistaken is decided by ``captions``; here it is only worded. An object that is
not there gets an imagined place, so that no form gives a falsehood away.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vlm_selfalign.data.world.captions import Mention, caption
from vlm_selfalign.data.world.forms import (
    AFTER,
    BESIDE,
    CLOSE,
    DENIED,
    DOUBTED,
    ENDINGS,
    HOW,
    MORE,
    ONE,
    SEVERAL,
    TWO,
)
from vlm_selfalign.data.world.language import Claim, Form, place
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import KINDS, WorldSettings
from vlm_selfalign.data.world.truth import centres, how, truth

Pool = Mapping[str, Form]


@dataclass(frozen=True)
class Sentence:
    """One sentence, what it claims of which kinds, and how it says two of them to lie to each other (or None)."""

    text: str
    claims: tuple[Claim, ...] = ()
    relation: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Description:
    """Sentences, and the mentions they put into words: which are false, and why."""

    sentences: tuple[Sentence, ...]
    mentions: tuple[Mention, ...]

    @property
    def text(self) -> str:
        """One paragraph."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All claims in the order of the text."""
        return tuple(claim for sentence in self.sentences for claim in sentence.claims)

    @property
    def false(self) -> tuple[Mention, ...]:
        """What is named without being there."""
        return tuple(mention for mention in self.mentions if not mention.true)


def describe(scene: Scene, chance: random.Random, settings: WorldSettings | None = None) -> Description:
    """A long description, falsehoods included; the same scene, chance and settings give the same text."""
    settings = settings or WorldSettings()
    mentions = caption(scene, chance, settings)
    writer = _Writer(_details(scene, mentions, chance, settings), chance, settings)
    waiting = [mention.kind for mention in mentions]
    while waiting:
        waiting = writer.introduce(waiting)
        writer.say_more()
    absent = [kind for kind in KINDS if kind not in scene.kinds and all(kind != m.kind for m in mentions)]
    writer.close(absent)
    return Description(tuple(writer.sentences), mentions)


def _details(
    scene: Scene, mentions: Iterable[Mention], chance: random.Random, settings: WorldSettings
) -> dict[str, dict[str, Any]]:
    """What can be said of each kind that is named: as it is, or as imagined."""
    found = truth(scene, settings)
    middles = centres(scene.things, settings)
    known = {o["kind"]: o | {"at": at} for o, at in zip(found["objects"], middles, strict=True)}
    free = [cell for cell in range(settings.cells**2) if divmod(cell, settings.cells) not in _cells(scene)]
    details: dict[str, dict[str, Any]] = {}
    for mention in mentions:
        if mention.why == "planted":
            row, col = divmod(chance.choice(free or [0]), settings.cells)
            item = {"place": place({"row": row, "col": col}, settings.cells), "at": ("", col + 0.5, row + 0.5)}
            item |= {"size": None, "hard": [], "count": 1}
        else:
            item = known[mention.really or mention.kind]
            item = item | {"count": found["counts"][mention.really or mention.kind]}
        details[mention.kind] = item | {"kind": mention.kind, "colour": mention.colour}
    return details


def _cells(scene: Scene) -> set[tuple[int, int]]:
    return {(thing.row, thing.col) for thing in scene.things}


class _Writer:
    """Puts kinds into sentences and remembers which were named and what was said of them."""

    def __init__(self, details: dict[str, dict[str, Any]], chance: random.Random, settings: WorldSettings) -> None:
        self.sentences: list[Sentence] = []
        self._details, self._chance, self._settings = details, chance, settings
        self._named: dict[str, set[str]] = {}

    def introduce(self, waiting: list[str]) -> list[str]:
        """Name the next kind, or the next two; returns those still to be named."""
        kind, after = waiting[0], waiting[1:2]
        one = self._details[kind]
        if one["count"] > 1:
            self._say(SEVERAL, kind)
        elif one["hard"] and self._chance.random() < self._settings.hedged:
            self._say(DOUBTED, kind)
        elif after and self._is_plain(after[0]) and self._chance.random() < 0.25:
            self._say(TWO, kind, after[0])
            return waiting[2:]
        elif (before := self._singles()) and self._chance.random() < 0.25:
            self._beside(kind, before[-1])
        else:
            self._say(ONE, kind)
        return waiting[1:]

    def say_more(self) -> None:
        """Now and then more of what was named last, or how two things lie to each other."""
        singles = self._singles()
        if singles and self._chance.random() < self._settings.detail:
            self._say(MORE, self._chance.choice(singles[-2:]))
        if len(singles) > 1 and self._chance.random() < self._settings.detail / 2:
            self._say(HOW, *self._chance.sample(singles, 2))

    def close(self, absent: list[str]) -> None:
        """Now and then what is not there, and an end."""
        if absent and self._chance.random() < self._settings.detail / 2:
            form = self._chance.choice(list(DENIED.values()))
            thing = {"kind": self._chance.choice(absent), "colour": "", "place": " "}
            self.sentences.append(Sentence(form.write(thing), tuple(form.claims(thing))))
        if self._chance.random() < self._settings.detail / 2:
            self.sentences.append(Sentence(self._chance.choice(ENDINGS)))

    def _is_plain(self, kind: str) -> bool:
        return self._details[kind]["count"] == 1 and not self._details[kind]["hard"]

    def _singles(self) -> list[str]:
        return [kind for kind in self._named if self._details[kind]["count"] == 1]

    def _beside(self, kind: str, before: str) -> None:
        if self._chance.random() < 0.3:
            self._say(AFTER, before, kind)
        elif not self._say(BESIDE, kind, before):
            self._say(ONE, kind)

    def _say(self, pool: Pool, kind: str, other: str = "") -> bool:
        """One sentence of the pool that fits what is known; whether there was one."""
        thing, relation = self._details[kind], ""
        if other:
            ways = how(thing["at"], self._details[other]["at"])
            relation = self._chance.choice(ways) if ways else ""
        fitting = [form for name, form in pool.items() if self._fits(name, form, pool, thing, relation)]
        if not fitting:
            return False
        form = self._chance.choice(fitting)
        second = self._details[other] if other else None
        lie = (kind, relation, other) if "relation" in form.needs else None
        text = form.write(thing, second, relation or "next to")
        self.sentences.append(Sentence(text, tuple(form.claims(thing, second)), lie))
        for claimed, item in ((kind, thing), (other, second)):
            if item is not None:
                self._named.setdefault(claimed, set()).update(form.needs if claimed == kind else ())
        return True

    def _fits(self, name: str, form: Form, pool: Pool, thing: dict[str, Any], relation: str) -> bool:
        if ("size" in form.needs and not thing["size"]) or ("relation" in form.needs and not relation):
            return False
        if name in CLOSE and relation != "next to":
            return False
        new = form.needs - {"relation"} - self._named.get(thing["kind"], set())
        return pool is not MORE or bool(new)
