r"""One record, one line: ``crc32 key json\n``, so that ``less`` reads it and a flipped bit shows.

The check sum covers everything after itself. The byte behind it is ``>`` on the first line of each batch and a
space on the others: a batch is synced before the next one is begun, so damage in front of the last ``>`` cannot be
a write that was cut short. Keys are 128 bits, 32 hex digits.

JSON is written as Python does: floats come back bit for bit, infinities and NaN survive (``Infinity``, ``NaN``), and
so do texts that are no valid Unicode.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

KEY_AT, JSON_AT = 9, 42


class Line(NamedTuple):
    """A line that passed its check sum; ``starts``: it is the first of a batch."""

    key: bytes
    json: bytes
    starts: bool

    @property
    def payload(self) -> Any:
        """The record itself."""
        return from_json(self.json)


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON on one line; pydantic records become objects."""
    return _COMPACT.encode(value).encode("utf-8", "surrogatepass")


def from_json(data: bytes) -> Any:
    """The inverse of ``to_json``. Raises ``ValueError``."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def _record(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


# Not pydantic's own writer: it turns infinities into null and refuses lone surrogates.
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_record)


def encode(key: bytes, data: bytes, starts: bool) -> bytes:
    """One line of the log from a 16-byte key and JSON."""
    body = (b">" if starts else b" ") + key.hex().encode() + b" " + data
    return b"%08x%s\n" % (zlib.crc32(body), body)


def decode(line: bytes) -> Line | None:
    """The line's parts, or None when it is not, byte for byte, what was written."""
    body = line[8:-1]
    if len(line) <= JSON_AT or line[-1:] != b"\n" or line[:8] != b"%08x" % zlib.crc32(body):
        return None
    return Line(bytes.fromhex(line[KEY_AT : JSON_AT - 1].decode()), line[JSON_AT:-1], line[8:9] == b">")


def lines(fd: int, end: int, chunk: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of the first ``end`` bytes of a file; the last line may lack its newline."""
    place, offset, rest = 0, 0, b""
    while place < end:
        data = os.pread(fd, min(chunk, end - place), place)
        if not data:
            break
        place += len(data)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield offset, line + b"\n"
            offset += len(line) + 1
    if rest:
        yield offset, rest


def line_at(fd: int, offset: int, chunk: int = 4096) -> bytes:
    """The line that begins at ``offset``; without a newline if the file ends first."""
    parts: list[bytes] = []
    while data := os.pread(fd, chunk, offset):
        stop = data.find(b"\n") + 1
        if stop:
            return b"".join((*parts, data[:stop]))
        parts.append(data)
        offset, chunk = offset + len(data), min(4 * chunk, 1 << 20)
    return b"".join(parts)


def growing_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a plain log that may still grow; a torn last one is left out, no file is no line."""
    found: list[dict[str, Any]] = []
    for text in path.read_bytes().rstrip(b"\n").split(b"\n") if path.is_file() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            break
    return found
