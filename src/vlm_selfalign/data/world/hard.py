"""Objects that are hard to see: small, faint, or partly covered by another one; each has at most one such fate."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from vlm_selfalign.data.world.backgrounds import contrast, mean_colour
from vlm_selfalign.data.world.language import place
from vlm_selfalign.data.world.settings import COLOURS, Background, WorldSettings
from vlm_selfalign.data.world.things import Thing

Why = Literal["small", "faint", "occluded"]

SMALL = 0.6
"""An object of less than this share of its cell is hard to see, ..."""
FAINT = 0.15
"""... so is one of less contrast to what is behind it, ..."""
HIDDEN = 0.2
"""... and one of which at least this share is covered."""

SIZES = (0.4, 0.55)
"""Of the cell: how small a small object is drawn."""
CONTRASTS = (0.05, 0.11)
"""How little a faint object differs from its background."""
PUSHES = (0.55, 0.8)
"""Of the cell: how far an object is pushed over the one it covers, ..."""
TO_THE_EDGE = 0.48
"""... and where it may not leave its part of the picture."""


def harden(
    things: Sequence[Thing], background: Background, chance: random.Random, settings: WorldSettings
) -> tuple[Thing, ...]:
    """The same objects, some of them made hard to see as the dials say.

    The shares of small and faint objects are those of the dials; covered ones can be fewer, since not every object
    has another, and a free cell, beside it.
    """
    made = list(things)
    if settings.small + settings.faint + settings.occluded == 0:
        return tuple(made)
    fates = [_fate(chance, settings) for _ in made]
    for index, fate in enumerate(fates):
        if fate == "small":
            made[index] = _small(made[index], chance, settings)
        elif fate == "faint":
            made[index] = _faint(made[index], background, chance, settings)
    free = [index for index, fate in enumerate(fates) if fate is None]
    for index, fate in enumerate(fates):
        if fate == "occluded" and free:
            cover = free.pop(chance.randrange(len(free)))
            made[cover] = _cover(made[cover], made[index], made, chance, settings)
    return tuple(made)


def _fate(chance: random.Random, settings: WorldSettings) -> Why | None:
    drawn = chance.random()
    for name, share in (("small", settings.small), ("faint", settings.faint), ("occluded", settings.occluded)):
        if drawn < share:
            return name  # type: ignore[return-value]
        drawn -= share
    return None


def _small(thing: Thing, chance: random.Random, settings: WorldSettings) -> Thing:
    size = chance.uniform(*SIZES) * settings.cell
    slack = (settings.cell - size) / 2
    moved = {"dx": chance.uniform(-slack, slack), "dy": chance.uniform(-slack, slack)}
    return thing.model_copy(update={"size": size, **moved})


def _faint(thing: Thing, background: Background, chance: random.Random, settings: WorldSettings) -> Thing:
    natural = contrast(COLOURS[thing.colour], mean_colour(background, settings.side, settings.background))
    return thing.model_copy(update={"opacity": min(1.0, chance.uniform(*CONTRASTS) / max(natural, 1e-6))})


def _cover(
    cover: Thing, covered: Thing, things: Sequence[Thing], chance: random.Random, settings: WorldSettings
) -> Thing:
    """Another object, moved beside the covered one and pushed over it; as it was where there is no room."""
    taken = {(thing.row, thing.col) for thing in things} - {(cover.row, cover.col)}
    steps = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    beside = [(covered.row + down, covered.col + right) for down, right in steps]
    cells = range(settings.cells)
    open_cells = [cell for cell in beside if cell not in taken and cell[0] in cells and cell[1] in cells]
    if not open_cells:
        return cover
    row, col = chance.choice(open_cells)
    # Pushed only so far that it stays in the part of the picture that its cell names.
    near, far = ({"row": r, "col": c} for r, c in ((row, col), (covered.row, covered.col)))
    inside = place(near, settings.cells) == place(far, settings.cells)
    pixels = int((chance.uniform(*PUSHES) if inside else TO_THE_EDGE) * settings.cell)
    pushed = {"push_x": (covered.col - col) * pixels, "push_y": (covered.row - row) * pixels}
    return cover.model_copy(update={"row": row, "col": col, "layer": 1, **pushed})
