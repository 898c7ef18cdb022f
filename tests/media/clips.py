"""Makes small clips whose every frame carries its own number as a bar code with a check sum.

So a test knows which frame it really got, that it is upright, that its colours are in order, and that it is not
garbage: ``read(picture(7)) == 7``, and ``None`` for anything that is not a whole, upright, RGB frame.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "0")  # this encoder writes a page about itself to the terminal

COLUMNS, ROWS = 8, 4
LIGHT, DARK = np.array([250, 215, 100]), np.array([20, 25, 75])
_MARK = (1, 1, 1, 0, 0, 1, 0, 1)  # the top row; it reads differently upside down and mirrored


def picture(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """uint8 ``[height, width, 3]``: eight columns, four rows; a mark, 16 bits of the number, 8 of its check sum."""
    cells = np.array(_bits(number)).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    return np.where(cells[rows][:, columns, None] == 1, LIGHT, DARK).astype(np.uint8)


def read(frame: np.ndarray) -> int | None:
    """The number on a frame ``[H, W, 3]``; ``None`` where it cannot be read with certainty."""
    height, width = frame.shape[:2]
    colours = np.empty((ROWS, COLUMNS, 3))
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, bottom = _middle(row, ROWS, height)
            left, right = _middle(column, COLUMNS, width)
            colours[row, column] = frame[top:bottom, left:right].mean((0, 1))
    light = colours.mean(-1)
    if ((light > 85) & (light < 145)).any() or light.max() < 115:
        return None
    bits = tuple(int(value) for value in (light.reshape(-1) > 115))
    number = int("".join(map(str, bits[8:24])), 2)
    red_first = (colours[..., 0] - colours[..., 2])[light > 115].mean() > -30  # grey clips have no order to check
    return number if bits == tuple(_bits(number)) and red_first else None


def numbers(frames: Iterable[np.ndarray]) -> list[int | None]:
    """The number on every frame."""
    return [read(frame) for frame in frames]


def _bits(number: int) -> list[int]:
    check = (number * 151 + (number >> 8) * 73 + 29) % 256
    return [*_MARK, *(number >> k & 1 for k in reversed(range(16))), *(check >> k & 1 for k in reversed(range(8)))]


def _middle(index: int, count: int, size: int) -> tuple[int, int]:
    """The middle of a cell, away from its blurred edges."""
    low, high = index * size / count, (index + 1) * size / count
    quarter = (high - low) / 4
    first = int(low + quarter)
    return first, max(first + 1, int(high - quarter))


def steady(frames: int, rate: Fraction | float = 30) -> tuple[Fraction, ...]:
    """Times of a constant rate, from 0."""
    return tuple(k / Fraction(rate) for k in range(frames))


@dataclass(frozen=True)
class Recipe:
    """How a clip is made; frame ``k`` carries the number ``first + k`` and is shown at ``times[k]`` seconds."""

    name: str
    codec: str = "libx264"
    suffix: str = "mp4"
    times: tuple[Fraction, ...] = field(default_factory=lambda: steady(150))
    tick: Fraction = Fraction(1, 90_000)
    """The unit in which times are written; codecs that know none but their rate need 1 / rate."""
    width: int = 96
    height: int = 64
    gop: int = 24
    pixels: str = "yuv420p"
    first: int = 0
    offset: Fraction = Fraction(0)
    """Seconds added to the clock in the file."""
    rotation: int = 0
    """Degrees counter-clockwise by which a player turns the frames; they are stored turned back."""
    options: tuple[tuple[str, str], ...] = ()
    muxing: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, Any], ...] = ()
    """Attributes of the codec's context (``color_trc``, ``sample_aspect_ratio``, ...)."""
    rate: Fraction = Fraction(30)

    @property
    def last(self) -> Fraction:
        """How long the last frame is shown."""
        return self.times[-1] - self.times[-2] if len(self.times) > 1 else 1 / self.rate

    def shown(self, time: float | Fraction) -> int:
        """The number on the frame shown at ``time`` seconds."""
        return self.first + max(0, bisect_right(self.times, time) - 1)

    def wanted(self, count: int) -> list[int]:
        """The numbers in the middle of ``count`` equal shares of the time, none twice."""
        span = self.times[-1] - self.times[0] + self.last
        return list(dict.fromkeys(self.shown((Fraction(k) + Fraction(1, 2)) / count * span) for k in range(count)))


_scratch = TemporaryDirectory(prefix="clips-")


@cache
def folder() -> Path:
    """A folder for clips that lives as long as the tests."""
    return Path(_scratch.name)


@cache
def made(recipe: Recipe) -> Path:
    """The clip of a recipe, encoded once however many tests want it; not to be changed."""
    return make(recipe, folder())


def make(recipe: Recipe, folder: Path) -> Path:
    """Encode a clip as ``folder/name.suffix``."""
    path = folder / f"{recipe.name}.{recipe.suffix}"
    with av.open(str(path), "w", options=dict(recipe.muxing)) as container:
        stream = add(container, recipe)
        for packet in packets(stream, recipe):
            container.mux(packet)
    return path


def add(container: Any, recipe: Recipe) -> Any:
    """One more stream in an open container, for the packets of a clip."""
    stream = container.add_stream(recipe.codec, rate=recipe.rate, options=_options(recipe))
    turned = recipe.rotation % 180 != 0
    stream.width, stream.height = (recipe.height, recipe.width) if turned else (recipe.width, recipe.height)
    stream.pix_fmt = recipe.pixels
    context = stream.codec_context
    context.time_base, context.gop_size, context.thread_count = recipe.tick, recipe.gop, 1
    context.flags |= av.codec.context.Flags.frame_duration
    for name, value in recipe.tags:
        setattr(context, name, value)
    if recipe.rotation:
        stream.set_display_rotation(recipe.rotation)
    return stream


def packets(stream: Any, recipe: Recipe) -> Iterable[Any]:
    """The encoded packets of a clip."""
    with _own_pace():
        yield from _packets(stream, recipe)


@contextlib.contextmanager
def _own_pace() -> Iterator[None]:
    """SVT-AV1 makes its process a real-time one where it may: children would inherit it and starve all others."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, settings = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, settings)


def _packets(stream: Any, recipe: Recipe) -> Iterator[Any]:
    for k, time in enumerate(recipe.times):
        pixels = np.rot90(picture(recipe.first + k, recipe.width, recipe.height), -recipe.rotation // 90)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
        frame = frame.reformat(format=recipe.pixels, **_conversion(recipe))
        frame.pts = round((time + recipe.offset) / recipe.tick)
        frame.time_base = recipe.tick
        until = recipe.times[k + 1] if k + 1 < len(recipe.times) else time + recipe.last
        frame.duration = round((until - time) / recipe.tick)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _conversion(recipe: Recipe) -> dict[str, Any]:
    return {"dst_color_range": "JPEG"} if dict(recipe.tags).get("color_range") == 2 else {}


def _options(recipe: Recipe) -> dict[str, str]:
    """Fast settings; what the recipe says comes last."""
    fast = {
        "libx264": {"preset": "veryfast", "crf": "20"},
        "libx264rgb": {"preset": "veryfast", "crf": "20"},
        "libx265": {"preset": "ultrafast", "crf": "20", "x265-params": "log-level=none:pools=1:frame-threads=1"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
        "libsvtav1": {"preset": "9", "crf": "15", "svtav1-params": "lp=1"},
    }.get(recipe.codec, {})
    lossy = recipe.codec in ("mpeg4", "mpeg2video", "mpeg1video", "wmv1", "wmv2", "msmpeg4", "mjpeg", "flv", "h263p")
    quality = {"b": "2000000"} if lossy else {}
    return {**fast, **quality, **dict(recipe.options)}


_30 = Fraction(1, 30)

ORDINARY: tuple[Recipe, ...] = (
    Recipe("h264", suffix="mp4"),
    Recipe("h264", suffix="mkv"),
    Recipe("h264", suffix="mov"),
    Recipe("h264", suffix="ts"),
    Recipe("h264", suffix="flv"),
    Recipe("hevc", "libx265", "mp4"),
    Recipe("hevc", "libx265", "mkv"),
    Recipe("vp9", "libvpx-vp9", "webm"),
    Recipe("av1", "libsvtav1", "mp4"),
    Recipe("mpeg4", "mpeg4", "avi", tick=_30, options=(("bf", "2"),)),
    Recipe("mpeg2", "mpeg2video", "mpg", tick=_30, options=(("bf", "2"),)),
    Recipe("wmv2", "wmv2", "wmv", tick=_30),
    Recipe("gif", "gif", "gif", times=steady(150, 25), tick=Fraction(1, 100), pixels="rgb8", rate=Fraction(25)),
    Recipe("mjpeg", "mjpeg", "mov", tick=_30, pixels="yuvj420p"),
)
"""The fourteen of every day: seven codecs, nine containers."""


def first_of(recipes: Sequence[Recipe], name: str) -> Recipe:
    """The recipe of a name."""
    return next(recipe for recipe in recipes if recipe.name == name)


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with some fields changed."""
    return replace(recipe, **fields)
