"""Pictures side by side: sheets of scenes and strips of frames, for pages, docs and notebooks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlm_selfalign.media.clip import Clip

GAP = 4
"""Pixels between pictures."""


def sheet(pictures: Sequence[Image.Image], columns: int, scale: int = 2) -> Image.Image:
    """Pictures of one size in rows on white, each ``scale`` times as large, with hard edges."""
    wide, high = (side * scale for side in pictures[0].size)
    rows = -(-len(pictures) // columns)
    plate = Image.new("RGB", (columns * (wide + GAP) - GAP, rows * (high + GAP) - GAP), "white")
    for index, one in enumerate(pictures):
        row, column = divmod(index, columns)
        large = one.resize((wide, high), Image.Resampling.NEAREST)
        plate.paste(large, (column * (wide + GAP), row * (high + GAP)))
    return plate


def strip(clip: Clip, frames: int = 8, scale: int = 2) -> Image.Image:
    """Some frames of a clip from left to right, evenly from the first to the last."""
    taken = np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int)
    return sheet([Image.fromarray(clip.frames[index]) for index in taken], len(taken), scale)
