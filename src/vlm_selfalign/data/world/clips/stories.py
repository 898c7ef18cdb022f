"""What happens in a clip: objects on the grid that move, meet, appear and vanish, one event after another."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote, unquote

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.seeds import digest, rng, seed_of
from vlm_selfalign.data.world.clips.settings import STEPS, Action, ClipSettings, Direction, Follow
from vlm_selfalign.data.world.hard import harden
from vlm_selfalign.data.world.scenes import SHARES, Split, make_thing
from vlm_selfalign.data.world.settings import KINDS, Background
from vlm_selfalign.data.world.things import Thing

Cell = tuple[int, int]

TOUCH = 0.3
"""Of a cell: how far the one who meets another is pushed over it, so that they touch."""


class Event(Record):
    """What one object does between ``start`` and ``end`` seconds; ``other`` is whom it meets.

    ``direction`` is None for what appears or vanishes. ``cell`` is where it is afterwards.
    """

    action: Action
    kind: str
    direction: Direction | None = None
    other: str | None = None
    cell: Cell
    start: float = 0.0
    end: float = 0.0

    @property
    def said(self) -> tuple[str, str, str | None, str | None]:
        """What counts as the same happening: action, kind, direction, other."""
        return (self.action, self.kind, self.direction, self.other)


class Story(Record):
    """All objects of a clip, each on the cell where it is first seen; the events in order; what is behind them."""

    things: tuple[Thing, ...]
    events: tuple[Event, ...]
    seed: int
    background: Background = "grey"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are ever there."""
        return tuple(thing.kind for thing in self.things)

    @property
    def appearing(self) -> frozenset[str]:
        """The kinds that are not there at the start."""
        return frozenset(event.kind for event in self.events if event.action == "appear")


def story(index: int, split: Split = "train", seed: int = 0, settings: ClipSettings | None = None) -> Story:
    """Clip number ``index`` of a split: the same arguments give the same clip.

    As with scenes, no story (kinds, colours, cells, events) is in two splits, whatever the seeds.
    """
    settings = settings or ClipSettings()
    if split not in SHARES:
        raise UserError(f"worldclip: no split '{split}'; known: {', '.join(SHARES)}")
    chance = rng("clip", split, seed, index)
    behind = chance.choice(settings.world.backgrounds)
    while True:
        plot = _Plot(chance, settings)
        if not plot.unfold():
            continue
        things = harden([plot.things[kind] for kind in plot.things], behind, chance, settings.world)
        shown = tuple((t.kind, t.colour, t.row, t.col) for t in things), tuple(e.said for e in plot.events)
        if int(digest(shown, size=4), 16) % 10 in SHARES[split]:
            return Story(
                things=things, events=plot.timed(), seed=seed_of("clip noise", split, seed, index), background=behind
            )


class _Plot:
    """Where everything is while a story unfolds."""

    def __init__(self, chance: random.Random, settings: ClipSettings) -> None:
        self.things: dict[str, Thing] = {}
        self.events: list[Event] = []
        self._chance, self._settings = chance, settings
        self._at: dict[str, Cell] = {}
        kinds = [kind for kind in KINDS if kind not in settings.world.without]
        self._new = chance.sample(kinds, len(kinds))
        for _ in range(chance.randint(settings.fewest, settings.most)):
            self._place(self._new.pop(), chance.choice(self._free()))

    def unfold(self) -> bool:
        """Let events happen, one after another; whether there was always room for one."""
        for _ in range(self._chance.randint(self._settings.fewest_events, self._settings.most_events)):
            event = self._followed() or self._any()
            if event is None:
                return False
            self._happen(event)
        return True

    def timed(self) -> tuple[Event, ...]:
        """The events with their times: each in its own equal part of the clip, with a rest before and after."""
        # Up to the last frame, not its end: what happens after it would not be seen.
        part = (self._settings.frames - 1) / self._settings.fps / len(self.events)
        timed = []
        for number, event in enumerate(self.events):
            rest = self._chance.uniform(0.1, 0.2) * part
            lasts = part * (0.7 if event.direction else 0.25)
            start = number * part + rest
            timed.append(event.model_copy(update={"start": round(start, 3), "end": round(start + lasts, 3)}))
        return tuple(timed)

    def _place(self, kind: str, cell: Cell) -> None:
        row, col = cell
        world = self._settings.world
        self.things[kind] = make_thing(kind, row * world.cells + col, self._chance, world)
        self._at[kind] = cell

    def _happen(self, event: Event) -> None:
        self.events.append(event)
        if event.action == "appear":
            self._new.remove(event.kind)
            self._place(event.kind, event.cell)
        elif event.action == "vanish":
            del self._at[event.kind]
        else:
            self._at[event.kind] = event.cell

    def _followed(self) -> Event | None:
        """Now and then what is believed to follow the last event."""
        for belief in following(self.events[-1], self._settings.follows) if self.events else ():
            if self._chance.random() < self._settings.together:
                ways = self._ways(belief.then, who(belief, self.events[-1]))
                if ways:
                    return self._chance.choice(ways)
        return None

    def _any(self) -> Event | None:
        for action in self._chance.sample(self._settings.actions, len(self._settings.actions)):
            kinds = self._new[:] if action == "appear" else list(self._at)
            for kind in self._chance.sample(kinds, len(kinds)):
                ways = self._ways(action, kind)
                if ways:
                    return self._chance.choice(ways)
        return None

    def _ways(self, action: Action, kind: str) -> list[Event]:
        """All ways in which this can happen now."""
        if action == "appear":
            room = kind in self._new and len(self._at) < self._settings.most + 1
            return [Event(action=action, kind=kind, cell=cell) for cell in self._lonely()] if room else []
        if kind not in self._at:
            return []
        if action == "vanish":
            return [Event(action=action, kind=kind, cell=self._at[kind])] if len(self._at) > 1 else []
        return [event for direction in STEPS for event in self._walks(kind, direction) if event.action == action]

    def _walks(self, kind: str, direction: Direction) -> list[Event]:
        """Straight walks over free cells: to where nobody is near, or up to the first one in the way."""
        taken = {cell: other for other, cell in self._at.items() if other != kind}
        (row, col), (down, right) = self._at[kind], STEPS[direction]
        found = []
        while True:
            ahead = (row + down, col + right)
            if ahead in taken and (row, col) != self._at[kind]:
                found.append(Event(action="meet", kind=kind, direction=direction, other=taken[ahead], cell=(row, col)))
            if ahead in taken or not all(0 <= at < self._settings.world.cells for at in ahead):
                return found
            row, col = ahead
            if not any(cell in taken for cell in _around((row, col))):
                found.append(Event(action="move", kind=kind, direction=direction, cell=(row, col)))

    def _free(self) -> list[Cell]:
        cells = range(self._settings.world.cells)
        taken = set(self._at.values())
        return [(row, col) for row in cells for col in cells if (row, col) not in taken]

    def _lonely(self) -> list[Cell]:
        """Free cells with nobody beside them, where nothing can be taken for a meeting."""
        taken = set(self._at.values())
        return [cell for cell in self._free() if not taken & set(_around(cell))]


def _around(cell: Cell) -> list[Cell]:
    return [(cell[0] + down, cell[1] + right) for down, right in STEPS.values()]


def following(event: Event, follows: tuple[Follow, ...]) -> list[Follow]:
    """The beliefs about what comes after an event."""
    return [belief for belief in follows if belief.first == event.action and belief.kind in (None, event.kind)]


def who(belief: Follow, event: Event) -> str:
    """The kind that does what is believed to follow."""
    return {"same": event.kind, "other": event.other or ""}.get(belief.who, belief.who)


def address(index: int, split: Split, seed: int, settings: ClipSettings) -> str:
    """The URI of a clip: split, seed, index, and the dials that were turned."""
    turned = settings.turned()
    dials = "?" + quote(json.dumps(turned, sort_keys=True)) if turned else ""
    return f"worldclip:{split}/{seed}/{index}{dials}"


def located(uri: str) -> tuple[Story, ClipSettings]:
    """The story and settings behind a URI. Raises ``UserError`` when it is not one of ours."""
    path, _, dials = uri.removeprefix("worldclip:").partition("?")
    try:
        split, seed, index = path.split("/")
        turned: dict[str, Any] = json.loads(unquote(dials)) if dials else {}
        number, chance = int(index), int(seed)
    except ValueError:
        raise UserError(f"'{uri}' is no clip of the drawn world; expected worldclip:SPLIT/SEED/INDEX") from None
    settings = ClipSettings.of(**turned)
    return story(number, split, chance, settings), settings  # type: ignore[arg-type]
