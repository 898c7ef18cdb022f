"""Damage that decoders do not notice, looked for in the file itself before anything is decoded.

Pillow leaves the check sums of a PNG's pixels unread, and shows a JPEG whose second half is zeros (what a download
that stopped leaves) as a picture with a grey half. Neither is shown here. What cannot be seen without decoding stays
unseen: a JPEG has no check sums, and a few changed bytes inside its pixels pass.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable

from vlm_selfalign.media.files import HEADER_BYTES, ByteFile

PNG_PIECES = 100_000
"""The most chunks of a PNG; writers make them of 8 KiB and more."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")  # a byte of 255 among pixels is followed by 0
_END, _SCAN, _INTERVAL = 0xD9, 0xDA, 0xDD
_RESTARTS = range(0xD0, 0xD8)
_BETWEEN_SCANS = {0xC4, 0xCC, *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE}


def check(file: ByteFile, format: str | None) -> None:
    """Refuse a damaged file of a known format with ``OSError``; leaves the file where it was."""
    place = file.tell()
    _CHECKS.get(format or "", lambda file: None)(file)
    file.seek(place)


def _check_png(file: ByteFile) -> None:
    """Every chunk has its check sum, the last is the end, and what is no picture stays small."""
    notes = 0
    file.seek(8)
    for _ in range(PNG_PIECES):
        start = file.read(8)
        if len(start) < 8:
            raise OSError("image file is truncated")
        length, kind = struct.unpack(">I4s", start)
        # Lower case: not needed for the picture. Pillow would hold these in memory; frames of an animation it skips.
        notes += length if kind[:1].islower() and kind != b"fdAT" else 0
        if notes > HEADER_BYTES:
            raise OSError("too many notes beside the picture")
        if _check_sum(file, kind, length) != file.read(4):
            raise OSError(f"wrong check sum of {kind!r}")
        if kind == b"IEND":
            return
    raise OSError("too many pieces")


def _check_sum(file: ByteFile, kind: bytes, length: int) -> bytes:
    total = zlib.crc32(kind)
    while length > 0 and (block := file.read(min(length, 1 << 20))):
        total = zlib.crc32(block, total)
        length -= len(block)
    return struct.pack(">I", total)


def _check_jpeg(file: ByteFile) -> None:
    """Among the pixels are no markers but restarts, in turn where there are any, and after them is the end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    data = file.read(size)  # without a size it would take twice the memory
    at, scans, interval, restarts = 2, 0, 0, 0
    while found := _MARKER.search(data, at):
        kind, at = data[found.end() - 1], found.end()
        if kind == _END:
            return
        if kind in _RESTARTS:
            if scans and (not interval or kind != _RESTARTS[restarts % 8]):
                raise OSError("corrupt pixels: a restart out of turn")
            restarts += 1
            continue
        if scans and kind not in _BETWEEN_SCANS:
            raise OSError(f"corrupt pixels: a marker {kind:#x} among them")
        if kind == _INTERVAL:
            interval = int.from_bytes(data[at + 2 : at + 4], "big")
        at += int.from_bytes(data[at : at + 2], "big")
        if kind == _SCAN:
            scans, restarts = scans + 1, 0
        elif scans and data[at : at + 1] != b"\xff":  # between scans one marker follows another
            raise OSError(f"corrupt pixels: a marker {kind:#x} among them")
    raise OSError("image file is truncated: no end of picture")


_CHECKS: dict[str, Callable[[ByteFile], None]] = {"PNG": _check_png, "JPEG": _check_jpeg, "MPO": _check_jpeg}
