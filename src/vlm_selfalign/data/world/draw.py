"""A scene as pixels, with Pillow and numpy alone: about a millisecond a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from vlm_selfalign.data.world.backgrounds import backdrop
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings
from vlm_selfalign.data.world.things import Thing

DRAWING = 1
"""Raise it when the same scene gives other pixels: it is part of every picture's content hash."""

FINE = 64
"""Side of the stencil a sprite is drawn on before it is tilted and made small."""

DARK = 90
"""Brightness (of 255) of a sprite's details: wheels, doors, eyes."""


def draw(scene: Scene, settings: WorldSettings | None = None) -> Image.Image:
    """The picture of a scene, RGB, ``settings.side`` square."""
    settings = settings or WorldSettings()
    picture = backdrop(scene.background, settings.side, settings.background).copy()
    for thing in in_order(scene.things):
        drawn = sprite(thing, settings)
        picture.paste(drawn.colours, drawn.corner, drawn.alpha)
    if settings.noise == 0:
        return picture
    grain = np.random.default_rng(scene.seed).normal(0, settings.noise, (settings.side, settings.side, 3))
    noisy = np.asarray(picture, dtype=np.float64) + grain
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def in_order(things: Sequence[Thing]) -> list[Thing]:
    """Objects in the order in which they are drawn: a later one covers the earlier ones."""
    return sorted(things, key=lambda thing: thing.layer)


@dataclass(frozen=True)
class Sprite:
    """One object as drawn: its colours, how much of it covers what is behind, and its upper left corner."""

    colours: Image.Image
    alpha: Image.Image
    corner: tuple[int, int]


def sprite(thing: Thing, settings: WorldSettings) -> Sprite:
    """An object on a patch as large as a cell."""
    alpha, corner = cover(thing, settings)
    shade = _placed(stencil(thing.kind)[1], thing, settings.cell)
    colour = np.asarray(COLOURS[thing.colour], dtype=np.float64)
    pixels = np.asarray(shade, dtype=np.float64)[..., None] / 255 * colour
    return Sprite(Image.fromarray(pixels.astype(np.uint8)), alpha, corner)


def cover(thing: Thing, settings: WorldSettings) -> tuple[Image.Image, tuple[int, int]]:
    """Only where an object covers what is behind it, as a patch of opacities, and the patch's upper left corner."""
    alpha = _placed(stencil(thing.kind)[0], thing, settings.cell)
    if thing.opacity < 1:
        alpha = alpha.point([round(value * thing.opacity) for value in range(256)])
    return alpha, corner(thing, settings.cell)


def corner(thing: Thing, cell: int) -> tuple[int, int]:
    """The upper left corner of an object's patch in the picture, in pixels."""
    return thing.col * cell + thing.push_x, thing.row * cell + thing.push_y


def _placed(layer: Image.Image, thing: Thing, cell: int) -> Image.Image:
    """Tilt, shrink and shift a layer of a stencil in one affine step."""
    scale = FINE / thing.size
    cos, sin = math.cos(math.radians(thing.angle)) * scale, math.sin(math.radians(thing.angle)) * scale
    middle_x, middle_y = cell / 2 + thing.dx, cell / 2 + thing.dy
    matrix = (cos, sin, FINE / 2 - cos * middle_x - sin * middle_y)
    matrix += (-sin, cos, FINE / 2 + sin * middle_x - cos * middle_y)
    # Four times too large and then averaged: an affine step alone would alias.
    large = tuple(value / 4 if i % 3 < 2 else value for i, value in enumerate(matrix))
    return layer.transform((4 * cell, 4 * cell), Image.Transform.AFFINE, large, Image.Resampling.BILINEAR).reduce(4)


@cache
def stencil(kind: str) -> tuple[Image.Image, Image.Image]:
    """Where a kind covers the background, and how bright it is there; both ``FINE`` square."""
    alpha = Image.new("L", (FINE, FINE), 0)
    shade = Image.new("L", (FINE, FINE), 255)
    SHAPES[kind](_Pen(alpha, shade))
    return alpha, shade


class _Pen:
    """Draws in unit coordinates on both layers; ``dark`` makes a detail."""

    def __init__(self, alpha: Image.Image, shade: Image.Image) -> None:
        self._layers = (ImageDraw.Draw(alpha), ImageDraw.Draw(shade))

    def polygon(self, *points: tuple[float, float], dark: bool = False) -> None:
        scaled = [(x * (FINE - 1), y * (FINE - 1)) for x, y in points]
        self._layers[0].polygon(scaled, fill=255)
        self._layers[1].polygon(scaled, fill=DARK if dark else 255)

    def rectangle(self, left: float, top: float, right: float, bottom: float, dark: bool = False) -> None:
        self.polygon((left, top), (right, top), (right, bottom), (left, bottom), dark=dark)

    def ellipse(self, left: float, top: float, right: float, bottom: float, dark: bool = False) -> None:
        box = [value * (FINE - 1) for value in (left, top, right, bottom)]
        self._layers[0].ellipse(box, fill=255)
        self._layers[1].ellipse(box, fill=DARK if dark else 255)

    def ring(self, left: float, top: float, right: float, bottom: float, width: float) -> None:
        box = [value * (FINE - 1) for value in (left, top, right, bottom)]
        self._layers[0].ellipse(box, outline=255, width=round(width * FINE))


def _boat(pen: _Pen) -> None:
    pen.polygon((0, 0.62), (1, 0.62), (0.8, 1), (0.2, 1))
    pen.rectangle(0.44, 0, 0.52, 0.62, dark=True)
    pen.polygon((0.56, 0.04), (0.56, 0.54), (0.98, 0.54))


def _fish(pen: _Pen) -> None:
    pen.ellipse(0, 0.22, 0.74, 0.78)
    pen.polygon((0.6, 0.5), (1, 0.16), (1, 0.84))
    pen.ellipse(0.12, 0.36, 0.26, 0.5, dark=True)


def _house(pen: _Pen) -> None:
    pen.rectangle(0.12, 0.45, 0.88, 1)
    pen.polygon((0, 0.47), (0.5, 0), (1, 0.47))
    pen.rectangle(0.38, 0.62, 0.62, 1, dark=True)


def _car(pen: _Pen) -> None:
    pen.rectangle(0, 0.45, 1, 0.78)
    pen.polygon((0.18, 0.47), (0.3, 0.18), (0.7, 0.18), (0.84, 0.47))
    pen.ellipse(0.1, 0.62, 0.38, 0.92, dark=True)
    pen.ellipse(0.62, 0.62, 0.9, 0.92, dark=True)


def _kite(pen: _Pen) -> None:
    pen.polygon((0.5, 0), (0.9, 0.36), (0.5, 0.78), (0.1, 0.36))
    pen.rectangle(0.47, 0, 0.53, 1, dark=True)
    pen.rectangle(0.1, 0.33, 0.9, 0.39, dark=True)
    pen.polygon((0.3, 0.86), (0.7, 1), (0.7, 0.86), (0.3, 1))


def _ball(pen: _Pen) -> None:
    pen.ellipse(0.02, 0.02, 0.98, 0.98)
    pen.rectangle(0.04, 0.42, 0.96, 0.58, dark=True)


def _cup(pen: _Pen) -> None:
    pen.ring(0.5, 0.25, 1, 0.75, 0.1)
    pen.polygon((0, 0.1), (0.74, 0.1), (0.62, 0.98), (0.12, 0.98))
    pen.ellipse(0.02, 0.02, 0.72, 0.2, dark=True)


def _box(pen: _Pen) -> None:
    pen.rectangle(0.05, 0.12, 0.95, 0.95)
    pen.rectangle(0.43, 0.12, 0.57, 0.95, dark=True)
    pen.rectangle(0.05, 0.36, 0.95, 0.44, dark=True)


def _star(pen: _Pen) -> None:
    corners = ((0.5 if i % 2 == 0 else 0.2, math.pi * (i / 5 - 0.5)) for i in range(10))
    pen.polygon(*((0.5 + r * math.cos(turn), 0.52 + r * math.sin(turn)) for r, turn in corners))


def _tree(pen: _Pen) -> None:
    pen.rectangle(0.4, 0.6, 0.6, 1, dark=True)
    pen.ellipse(0.08, 0, 0.92, 0.72)


SHAPES: dict[str, Callable[[_Pen], None]] = dict(
    zip(KINDS, (_boat, _fish, _house, _car, _kite, _ball, _cup, _box, _star, _tree), strict=True)
)
