"""What stands behind the objects: flat or graded colours and patterns, none near any object's colour."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from vlm_selfalign.data.world.settings import Background

Colour = tuple[int, int, int]

GRADED: dict[str, tuple[Colour, Colour]] = {
    "sand": ((205, 182, 140), (185, 160, 120)),
    "sky": ((130, 172, 210), (165, 195, 218)),
    "dusk": ((60, 52, 82), (88, 78, 100)),
    "meadow": ((138, 150, 112), (112, 132, 88)),
}
"""Top and bottom colour."""

STEP = 14
"""By how much of 255 stripes and checks differ from the grey they are made of, either way."""


@cache
def backdrop(name: Background, side: int, grey: int) -> Image.Image:
    """The empty picture, RGB, ``side`` square; ``grey`` is the brightness of the plain one and of patterns."""
    if name == "grey":
        return Image.new("RGB", (side, side), (grey,) * 3)
    if name in GRADED:
        top, bottom = (np.asarray(colour, dtype=np.float64) for colour in GRADED[name])
        down = np.linspace(0, 1, side)[:, None, None]
        pixels = np.broadcast_to(top + (bottom - top) * down, (side, side, 3))
    else:
        across = np.arange(side) // max(side // 16, 1)
        odd = (across[:, None] + (across[None, :] if name == "checks" else 0 * across)) % 2
        pixels = np.repeat(grey + STEP * (2.0 * odd[..., None] - 1), 3, axis=2)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


@cache
def mean_colour(name: Background, side: int, grey: int) -> tuple[float, float, float]:
    """The average colour of a backdrop, of 255."""
    red, green, blue = np.asarray(backdrop(name, side, grey), dtype=np.float64).mean((0, 1))
    return float(red), float(green), float(blue)


def contrast(colour: tuple[float, ...], behind: tuple[float, ...]) -> float:
    """How far two colours are apart: 0 when they are the same, 1 from black to white."""
    return float(np.linalg.norm(np.subtract(colour, behind)) / (255 * 3**0.5))
