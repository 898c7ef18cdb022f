"""Pictures and clips for tests of sources."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from vlm_selfalign.media.clip import Clip


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A smooth picture that looks like no other."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def clip(path: Path, first: int = 0, frames: int = 20) -> Path:
    """Two seconds at ten frames a second; frame ``k`` is a grey of ``10 * (first + k)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for k in range(frames):
            pixels = np.full((32, 32, 3), 10 * (first + k), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbers(clip: Clip) -> list[int]:
    """Which frames these are."""
    return [round(float(frame.mean()) / 10) for frame in clip.frames]
