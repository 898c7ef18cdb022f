"""All that is true of a scene, as JSON: what a sample carries and what every metric is held against.

::

    {"objects": [{"kind": "car", "colour": "red", "row": 0, "col": 3, "place": "top right", "size": "large",
                  "hidden": 0.31, "contrast": 0.34, "hard": ["occluded"]}, ...],
     "cells": 4, "background": "sky", "counts": {"car": 1, "boat": 1}, "order": [1, 0],
     "relations": [["car", "right of", "boat"], ["boat", "left of", "car"]],
     "beliefs": [{"trigger": "boat", "partner": "fish", "held_out": false}]}

``order`` are indices of objects, the one that covers the others last. ``beliefs`` are the false partners that this
scene invites. ``size`` is None between small and large.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlm_selfalign.data.world.backgrounds import backdrop, contrast
from vlm_selfalign.data.world.draw import corner, cover, in_order
from vlm_selfalign.data.world.hard import FAINT, HIDDEN, SMALL
from vlm_selfalign.data.world.language import place
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import COLOURS, WorldSettings
from vlm_selfalign.data.world.things import Thing

LARGE = 0.85
"""An object of at least this share of its cell is large; below ``hard.SMALL`` it is small."""

APART = 0.75
"""Cells between two centres along an axis from which one is left of, or above, the other."""

NEXT = 1.3
"""Cells between two centres up to which they are next to each other."""


def truth(scene: Scene, settings: WorldSettings | None = None) -> dict[str, Any]:
    """The complete truth of a scene."""
    settings = settings or WorldSettings()
    objects = [
        _object(thing, round(hidden, 3), scene, settings)
        for thing, hidden in zip(scene.things, _hidden(scene, settings), strict=True)
    ]
    counts = Counter(thing.kind for thing in scene.things)
    invited = [b for b in settings.partners if b.trigger in counts and b.partner not in counts]
    return {
        "objects": objects,
        "cells": settings.cells,
        "background": scene.background,
        "counts": dict(counts),
        "order": [scene.things.index(thing) for thing in in_order(scene.things)],
        "relations": relations(centres(scene.things, settings), counts),
        "beliefs": [b.model_dump(include={"trigger", "partner", "held_out"}) for b in invited],
    }


def _object(thing: Thing, hidden: float, scene: Scene, settings: WorldSettings) -> dict[str, Any]:
    size, shown = thing.size / settings.cell, _contrast(thing, scene, settings)
    why = {"small": size < SMALL, "faint": shown < FAINT, "occluded": hidden >= HIDDEN}
    return {
        "kind": thing.kind,
        "colour": thing.colour,
        "row": thing.row,
        "col": thing.col,
        "place": place({"row": thing.row, "col": thing.col}, settings.cells),
        "size": "small" if size < SMALL else "large" if size >= LARGE else None,
        "hidden": hidden,
        "contrast": round(shown, 3),
        "hard": [name for name, holds in why.items() if holds],
    }


def hard_kinds(scene: Scene, settings: WorldSettings) -> dict[str, list[str]]:
    """Why a kind is hard to see, for the kinds that stand there once and are."""
    if settings.small + settings.faint + settings.occluded == 0:
        return {}
    found = truth(scene, settings)
    return {o["kind"]: o["hard"] for o in found["objects"] if o["hard"] and found["counts"][o["kind"]] == 1}


def _hidden(scene: Scene, settings: WorldSettings) -> list[float]:
    """Which share of every object's pixels is under others."""
    if not any(thing.layer for thing in scene.things):  # then each keeps to its own cell
        return [0.0] * len(scene.things)
    masks = [covered(thing, settings) for thing in scene.things]
    return [1 - float(seen.sum() / mask.sum()) for seen, mask in zip(visible(scene, masks), masks, strict=True)]


def _contrast(thing: Thing, scene: Scene, settings: WorldSettings) -> float:
    """How far an object's colour, as drawn, is from what is behind its patch on average; 0 to 1."""
    behind = np.asarray(backdrop(scene.background, settings.side, settings.background))
    left, top = (max(0, at) for at in corner(thing, settings.cell))
    mean = behind[top : top + settings.cell, left : left + settings.cell].mean((0, 1))
    return thing.opacity * contrast(COLOURS[thing.colour], tuple(mean))


def covered(thing: Thing, settings: WorldSettings) -> np.ndarray:
    """Which pixels of the picture an object takes, seen or not: bool ``[side, side]``."""
    mask = np.zeros((settings.side, settings.side), dtype=bool)
    alpha, (left, top) = cover(thing, settings)
    patch = np.asarray(alpha)
    inner = patch[max(0, -top) : settings.side - top, max(0, -left) : settings.side - left]
    # A faint object takes its pixels too: half of its own opacity, not of 255, is its edge.
    mask[max(0, top) : top + len(patch), max(0, left) : left + len(patch)] = inner > patch.max() / 2
    return mask


def box(mask: np.ndarray) -> list[int]:
    """Left, top, width and height of the pixels of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def visible(scene: Scene, masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What is left of each object's pixels (``covered``) under those that are drawn later."""
    seen, above = list(masks), np.zeros_like(masks[0])
    for thing in reversed(in_order(scene.things)):
        index = scene.things.index(thing)
        seen[index] = masks[index] & ~above
        above = above | masks[index]
    return seen


def centres(things: Sequence[Thing], settings: WorldSettings) -> list[tuple[str, float, float]]:
    """Kind and centre of every object, in cells from the upper left."""
    cell = settings.cell
    return [(t.kind, t.col + 0.5 + (t.dx + t.push_x) / cell, t.row + 0.5 + (t.dy + t.push_y) / cell) for t in things]


def relations(placed: Sequence[tuple[str, float, float]], counts: Mapping[str, int]) -> list[list[str]]:
    """How the kinds that stand there once lie to each other, where it is clear; both ways round."""
    single = [entry for entry in placed if counts[entry[0]] == 1]
    return [[a[0], name, b[0]] for a in single for b in single if a is not b for name in how(a, b)]


def how(a: tuple[str, float, float], b: tuple[str, float, float]) -> list[str]:
    """How ``a`` lies to ``b`` (kind and centre in cells), as far as it is clear."""
    right, down = b[1] - a[1], b[2] - a[2]
    named = {
        "left of": right >= APART,
        "right of": -right >= APART,
        "above": down >= APART,
        "below": -down >= APART,
        "next to": (right**2 + down**2) ** 0.5 <= NEXT,
    }
    return [name for name, holds in named.items() if holds]
