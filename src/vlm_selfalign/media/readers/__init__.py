"""Decoders of clips: one module each, one function, one request.

A reader is ``read(path: str, request: Request) -> Clip``: a module-level function without state, so that it can run in
a child process that is killed when it is late. It opens the file itself, closes it, and raises nothing but
``MediaError``. What it cannot promise it says in ``Clip.reasons``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Literal

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.media.clip import Clip

MAX_BYTES = 8 * 1024**3
"""The most bytes a clip's file may have."""

Policy = Literal["middle", "left", "ends"]

READERS = {
    "pyav": "vlm_selfalign.media.readers.pyav",
    "decord": "vlm_selfalign.media.readers.decord",
    "torchcodec": "vlm_selfalign.media.readers.torchcodec",
}
"""Backends by name; ``auto`` is pyav, the only one whose frames were right on every kind of file."""


@dataclass(frozen=True)
class Request:
    """Which frames of a clip are wanted, and what a reader may spend on them."""

    frames: int | None = 16
    """How many, spread evenly over the time; ``None`` when ``fps`` says it."""
    fps: float | None = None
    """How many a second; ``None`` when ``frames`` says it."""
    max_frames: int | None = None
    """Never more than this: a longer clip is sampled more thinly."""
    start: float | None = None
    """Seconds after the first frame; ``None`` is the beginning."""
    end: float | None = None
    """Seconds after the first frame; ``None`` is the end."""
    policy: Policy = "middle"
    """Where in its share of the time a frame is taken: the middle, its left end, or stretched from end to end."""
    max_pixels: int = 40_000_000
    """Refuse a clip whose frames have more."""
    max_output: int = 1 << 30
    """Refuse when the wanted frames would fill more bytes."""
    threads: int = 1
    """Decoding threads; above 1 only in a process of its own, since error messages are then shared by all threads."""


Reader = Callable[[str, Request], Clip]


def reader_of(backend: str) -> Reader:
    """The reader of a backend; ``torchcodec:cuda`` decodes there.

    Raises:
        UserError: It is unknown, not installed, or decodes on no such device.
    """
    name, _, device = backend.partition(":")
    name = "pyav" if name == "auto" else name
    if name not in READERS:
        raise UserError(f"no video backend called '{backend}'{nearest(name, ['auto', *READERS])}")
    if device and name != "torchcodec":
        raise UserError(f"video backend '{backend}': {name} decodes on the CPU only; torchcodec:{device} may do it")
    try:
        read = import_module(READERS[name]).read
    except ImportError as error:
        raise UserError(f"video backend '{name}' needs a package that is not installed: {error}") from error
    return partial(read, device=device) if device else read
