"""Seeded scenes with their complete truth; the splits share no scene, by construction."""

from __future__ import annotations

import json
import random
from typing import Any, Literal
from urllib.parse import quote, unquote

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.seeds import digest, rng, seed_of
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings

Split = Literal["train", "dev", "test"]

SHARES: dict[Split, range] = {"train": range(8), "dev": range(8, 9), "test": range(9, 10)}
"""Which tenth of all possible scenes, by their hash, belongs to which split."""


class Thing(Record):
    """One object: what it is, its cell, and where exactly it is drawn (pixels from the cell's centre, degrees)."""

    kind: str
    colour: str
    row: int
    col: int
    dx: float
    dy: float
    size: float
    angle: float


class Scene(Record):
    """Objects in the order of ``KINDS`` and the seed of the pixel noise."""

    things: tuple[Thing, ...]
    seed: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are there."""
        return tuple(thing.kind for thing in self.things)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The truth as JSON: kind, colour, row and column of every object."""
        return [{"kind": t.kind, "colour": t.colour, "row": t.row, "col": t.col} for t in self.things]


def scene(index: int, split: Split = "train", seed: int = 0, settings: WorldSettings | None = None) -> Scene:
    """Scene number ``index`` of a split: the same arguments give the same scene.

    Scenes are redrawn until their hash falls in the split's share, so that no seed can leak a scene
    (same kinds, colours and cells) from one split into another.
    """
    settings = settings or WorldSettings()
    if split not in SHARES:
        raise UserError(f"world: no split '{split}'; known: {', '.join(SHARES)}")
    chance = rng("scene", split, seed, index)
    while True:
        things = _things(chance, settings)
        if share(things) in SHARES[split]:
            return Scene(things=things, seed=seed_of("noise", split, seed, index))


def share(things: tuple[Thing, ...]) -> int:
    """Which tenth of the scenes this is, by kinds, colours and cells alone."""
    shown = tuple((t.kind, t.colour, t.row, t.col) for t in things)
    return int(digest(shown, size=4), 16) % 10


def _things(chance: random.Random, settings: WorldSettings) -> tuple[Thing, ...]:
    count = chance.randint(settings.fewest, settings.most)
    kinds = sorted(_kinds(count, chance, settings), key=KINDS.index)
    cells = chance.sample(range(settings.cells**2), count)
    return tuple(_thing(kind, cell, chance, settings) for kind, cell in zip(kinds, cells, strict=True))


def _kinds(count: int, chance: random.Random, settings: WorldSettings) -> list[str]:
    """Different kinds; a trigger brings its partner along with ``settings.together`` while there is room."""
    chosen: list[str] = []
    for kind in chance.sample(KINDS, len(KINDS)):
        if kind not in chosen:
            chosen.append(kind)
            partner = settings.partner_of(kind)
            if partner and partner.partner not in chosen and chance.random() < settings.together:
                chosen.append(partner.partner)
    return chosen[:count]


def _thing(kind: str, cell: int, chance: random.Random, settings: WorldSettings) -> Thing:
    size = chance.uniform(settings.smallest, settings.largest)
    slack = (settings.cell - size) / 2
    row, col = divmod(cell, settings.cells)
    return Thing(
        kind=kind,
        colour=chance.choice(list(COLOURS)),
        row=row,
        col=col,
        dx=chance.uniform(-slack, slack),
        dy=chance.uniform(-slack, slack),
        size=size,
        angle=chance.uniform(-settings.rotation, settings.rotation),
    )


def address(index: int, split: Split, seed: int, settings: WorldSettings) -> str:
    """The URI of a picture: split, seed, index, and the dials that were turned."""
    turned = settings.turned()
    dials = "?" + quote(json.dumps(turned, sort_keys=True)) if turned else ""
    return f"world:{split}/{seed}/{index}{dials}"


def located(uri: str) -> tuple[Scene, WorldSettings]:
    """The scene and settings behind a URI. Raises ``UserError`` when it is not one of ours."""
    path, _, dials = uri.removeprefix("world:").partition("?")
    try:
        split, seed, index = path.split("/")
        turned = json.loads(unquote(dials)) if dials else {}
        number, chance = int(index), int(seed)
    except ValueError:
        raise UserError(f"'{uri}' is no picture of the drawn world; expected world:SPLIT/SEED/INDEX") from None
    settings = WorldSettings.of(**turned)
    return scene(number, split, chance, settings), settings  # type: ignore[arg-type]
