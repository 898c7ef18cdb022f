"""Long descriptions of clips: what is there, then the events in varied English, with what is falsely believed.

::

    told = describe_clip(story, chance, settings)
    told.text       # "At first there is a red boat and a blue cup. Then the boat drifts to the left, and then ..."
    told.events     # EventClaims in the order in which the text says that they happened
    told.false      # those of them that did not
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from vlm_selfalign.data.world.captions import lie
from vlm_selfalign.data.world.clips.language import (
    CHAINS,
    CLAUSES,
    FIRST,
    LAST,
    NEXT,
    OPENERS,
    STILL,
    EventClaim,
    listed,
    sentence,
)
from vlm_selfalign.data.world.clips.settings import STEPS, ClipSettings
from vlm_selfalign.data.world.clips.stories import Event, Story, following, who
from vlm_selfalign.data.world.clips.truth import open_beliefs
from vlm_selfalign.data.world.language import place
from vlm_selfalign.data.world.settings import COLOURS


@dataclass(frozen=True)
class Told:
    """An event as it is told: as in the truth, its colour and place besides, and whether it happened."""

    action: str
    kind: str
    direction: str | None
    other: str | None
    colour: str
    place: str
    true: bool

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclass(frozen=True)
class ClipDescription:
    """Sentences; what they say happened, in that order; which of it is false; the kinds they say are there, and
    those that they say stay where they are.
    """

    sentences: tuple[str, ...]
    events: tuple[EventClaim, ...]
    false: tuple[EventClaim, ...]
    kinds: tuple[str, ...]
    still: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One paragraph."""
        return " ".join(self.sentences)


def describe_clip(story: Story, chance: random.Random, settings: ClipSettings | None = None) -> ClipDescription:
    """A long description, falsehoods included; at least one event is told."""
    settings = settings or ClipSettings()
    told: list[Told] = []
    while not told:
        told = _remembered(story, chance, settings)
    return _Narrator(story, chance).tell(told)


def _remembered(story: Story, chance: random.Random, settings: ClipSettings) -> list[Told]:
    """The events that are told, false ones where they are believed to follow.

    What really happened as believed is never left out, so that only the frames tell belief and truth apart.
    """
    told: list[Told] = []
    expected: set[tuple[str, str]] = set()
    for number, event in enumerate(story.events):
        if (event.action, event.kind) in expected or chance.random() >= settings.omission:
            told.append(_as_told(event, story, settings))
            expected = {(b.then, who(b, event)) for b in following(event, settings.follows)}
            belief = lie(open_beliefs(story, number, settings), chance)
            if belief is not None and all((t.action, t.kind) != (belief.then, who(belief, event)) for t in told):
                told.append(_believed(belief.then, who(belief, event), story, chance, settings))
        else:
            expected = set()
    return told


def _as_told(event: Event, story: Story, settings: ClipSettings) -> Told:
    row, col = event.cell
    where = place({"row": row, "col": col}, settings.world.cells)
    colour = next(thing.colour for thing in story.things if thing.kind == event.kind)
    return Told(event.action, event.kind, event.direction, event.other, colour, where, True)


def _believed(action: str, kind: str, story: Story, chance: random.Random, settings: ClipSettings) -> Told:
    colours = {thing.kind: thing.colour for thing in story.things}
    row, col = (chance.randrange(settings.world.cells) for _ in range(2))
    direction = chance.choice(list(STEPS)) if action == "move" else None
    colour = colours.get(kind) or chance.choice(list(COLOURS))
    return Told(action, kind, direction, None, colour, place({"row": row, "col": col}, settings.world.cells), False)


class _Narrator:
    """Puts events into sentences and knows who was mentioned."""

    def __init__(self, story: Story, chance: random.Random) -> None:
        self._story, self._chance = story, chance
        self._colours = {thing.kind: thing.colour for thing in story.things}
        self._kinds: list[str] = []

    def tell(self, told: list[Told]) -> ClipDescription:
        """The whole text."""
        sentences = [self._opening()] if self._chance.random() < 0.7 else []
        claims: list[EventClaim] = []
        waiting = list(told)
        while waiting:
            count = 2 if len(waiting) > 1 and self._chance.random() < 0.4 else 1
            sentences.append(self._sentence(waiting[:count], not claims, count == len(waiting), claims))
            waiting = waiting[count:]
        still = [kind for kind in self._still(told) if self._chance.random() < 0.4][:1]
        self._kinds += still
        sentences += [sentence(self._chance.choice(STILL).format(kind=kind)) for kind in still]
        false = tuple(claim for claim, event in zip(claims, told, strict=True) if not event.true)
        return ClipDescription(tuple(sentences), tuple(claims), false, tuple(dict.fromkeys(self._kinds)), tuple(still))

    def _opening(self) -> str:
        there = [kind for kind in self._story.kinds if kind not in self._story.appearing]
        return sentence(self._chance.choice(OPENERS).format(things=listed([self._name(kind) for kind in there])))

    def _still(self, told: list[Told]) -> list[str]:
        """Kinds that are there throughout and that nothing is said to happen to, in truth or in the text."""
        busy = {name for e in (*self._story.events, *told) for name in (e.kind, e.other) if name}
        return [kind for kind in self._story.kinds if kind not in busy]

    def _sentence(self, part: list[Told], first: bool, last: bool, claims: list[EventClaim]) -> str:
        if len(part) == 2:
            chain = CHAINS[self._chance.choice(list(CHAINS))]
            # Articles follow the order of the words, claims that of the events.
            order = part if chain.index("{first}") < chain.index("{second}") else part[::-1]
            clauses = {id(event): self._clause(event) for event in order}
            claims += [clauses[id(event)][1] for event in part]
            return sentence(chain.format(first=clauses[id(part[0])][0], second=clauses[id(part[1])][0]))
        clause, claim = self._clause(part[0])
        claims.append(claim)
        # The first event may be the only one: it is told as first.
        frames = FIRST if first else LAST if last else NEXT
        return sentence(self._chance.choice(frames).format(first=clause))

    def _clause(self, event: Told) -> tuple[str, EventClaim]:
        form = self._chance.choice(list(CLAUSES[event.action].values()))  # type: ignore[index]
        subject = self._name(event.kind, event.colour)
        other = self._name(event.other) if event.other and "{other}" in form.template else ""
        return form.write(event, subject, other, event.place), form.claim(event, event.place)  # type: ignore[arg-type]

    def _name(self, kind: str, colour: str = "") -> str:
        """``a red boat`` the first time, then ``the boat`` or ``the red boat``."""
        known = kind in self._kinds
        self._kinds.append(kind)
        shown = colour or self._colours[kind]
        if known:
            return f"the {kind}" if self._chance.random() < 0.6 else f"the {shown} {kind}"
        return f"a {shown} {kind}" if self._chance.random() < 0.8 else f"a {kind}"
