"""Seeded scenes with their complete truth; the splits share no scene, by construction."""

from __future__ import annotations

import json
import random
from typing import Any, Literal
from urllib.parse import quote, unquote

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.seeds import digest, rng, seed_of
from vlm_selfalign.data.world.hard import harden
from vlm_selfalign.data.world.settings import COLOURS, COPIES, KINDS, Background, WorldSettings
from vlm_selfalign.data.world.things import Thing

Split = Literal["train", "dev", "test"]

SHARES: dict[Split, range] = {"train": range(8), "dev": range(8, 9), "test": range(9, 10)}
"""Which tenth of all possible scenes, by their hash, belongs to which split."""


class Scene(Record):
    """Objects in the order of ``KINDS``, the seed of the pixel noise, and what is behind the objects."""

    things: tuple[Thing, ...]
    seed: int
    background: Background = "grey"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are there, each once."""
        return tuple(dict.fromkeys(thing.kind for thing in self.things))

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The heart of the truth as JSON: kind, colour, row and column of every object; all of it is in ``truth``."""
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
    behind = rng("background", split, seed, index).choice(settings.backgrounds)
    while True:
        things = harden(_things(chance, settings), behind, chance, settings)
        if share(things) in SHARES[split]:
            return Scene(things=things, seed=seed_of("noise", split, seed, index), background=behind)


def share(things: tuple[Thing, ...]) -> int:
    """Which tenth of the scenes this is, by kinds, colours and cells alone."""
    shown = tuple((t.kind, t.colour, t.row, t.col) for t in things)
    return int(digest(shown, size=4), 16) % 10


def _things(chance: random.Random, settings: WorldSettings) -> tuple[Thing, ...]:
    count = chance.randint(settings.fewest, settings.most)
    kinds = sorted(_repeated(_kinds(count, chance, settings), chance, settings), key=KINDS.index)
    cells = chance.sample(range(settings.cells**2), len(kinds))
    made = [make_thing(kind, cell, chance, settings) for kind, cell in zip(kinds, cells, strict=True)]
    # All of a kind are of one colour, so that "the cars are red" is true or false.
    first = {thing.kind: thing.colour for thing in reversed(made)}
    if len(first) == len(made):
        return tuple(made)
    return tuple(thing.model_copy(update={"colour": first[thing.kind]}) for thing in made)


def _kinds(count: int, chance: random.Random, settings: WorldSettings) -> list[str]:
    """Different kinds; a trigger brings its partners along with ``settings.together`` while there is room."""
    chosen: list[str] = []
    for kind in chance.sample(KINDS, len(KINDS)):
        if kind not in chosen and kind not in settings.without:
            chosen.append(kind)
            for belief in settings.partners_of(kind):
                left = belief.partner not in chosen and belief.partner not in settings.without
                if left and chance.random() < settings.together:
                    chosen.append(belief.partner)
    return chosen[:count]


def _repeated(kinds: list[str], chance: random.Random, settings: WorldSettings) -> list[str]:
    """Now and then one kind stands there two or three times."""
    if settings.repeats and chance.random() < settings.repeats:
        return kinds + [chance.choice(kinds)] * chance.randint(1, COPIES)
    return kinds


def make_thing(kind: str, cell: int, chance: random.Random, settings: WorldSettings) -> Thing:
    """An object of any colour, tilted, sized and shifted within its cell by chance."""
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
