"""Pictures whose every quarter is known, written by hand where an encoder would refuse, and how they come back."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image

RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)


def quadrants(size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Red, green / blue, yellow."""
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for number, colour in enumerate((RED, GREEN, BLUE, YELLOW)):
        left, top = (number % 2) * width, (number // 2) * height
        image.paste(colour, (left, top, left + width, top + height))
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middles of the quarters."""
    width, height = image.size
    points = [(width // 4, height // 4), (3 * width // 4, height // 4)]
    points += [(width // 4, 3 * height // 4), (3 * width // 4, 3 * height // 4)]
    return [image.getpixel(point) for point in points]  # type: ignore[misc]


def near(found: object, wanted: object, tolerance: int = 12) -> bool:
    return bool(np.abs(np.asarray(found, int) - np.asarray(wanted, int)).max() <= tolerance)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colour: int, data: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refusal(path: object, **limits: int) -> MediaError:
    """The error of a picture that must be refused, and at once."""
    begin = time.process_time()  # of the processor: others may be at work on this machine
    with pytest.raises(MediaError) as caught:
        load_image(path, **limits)  # type: ignore[arg-type]
    assert time.process_time() - begin < 0.5
    return caught.value
