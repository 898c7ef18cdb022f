"""Where the records of a key are: three sorted numpy columns, 24 bytes a record, no Python object among them.

index = KeyIndex.of(keys, places)      # keys: 16 bytes each, joined
index.find(key)                        # places in the order given, first record first
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_selfalign.core.disk import write_atomic

Column = NDArray[np.uint64]
HEADER = 64
HALVES = struct.Struct(">QQ")
NOWHERE = np.empty(0, np.uint64)


class KeyIndex:
    """Halves of 128-bit keys and a 64-bit place each, sorted by the upper half; equal keys keep their order."""

    def __init__(self, upper: Column, lower: Column, place: Column) -> None:
        self.upper, self.lower, self.place = upper, lower, place
        # One key at a time: plain integers out of the same memory are four times faster than numpy's scalars.
        self._uppers, self._lowers, self._places = upper.data, lower.data, place.data

    @classmethod
    def of(cls, keys: bytes | bytearray, places: Sequence[int] | Any) -> KeyIndex:
        """An index of joined 16-byte keys, one place each."""
        halves = np.frombuffer(keys, ">u8").astype(np.uint64).reshape(-1, 2)
        return cls._sorted(halves[:, 0], halves[:, 1], np.asarray(places, np.uint64))

    @classmethod
    def joined(cls, parts: Sequence[KeyIndex]) -> KeyIndex:
        """All parts as one; records of equal keys in the order of the parts."""
        columns = ([getattr(part, name) for part in parts] or [NOWHERE] for name in ("upper", "lower", "place"))
        return cls._sorted(*(np.concatenate(column) for column in columns))

    @classmethod
    def _sorted(cls, upper: Column, lower: Column, place: Column) -> KeyIndex:
        # A stable sort by half the key is enough: find() tells the few that share an upper half apart.
        order = np.argsort(upper, kind="stable")
        return cls(upper[order], lower[order], place[order])

    def __len__(self) -> int:
        return len(self.place)

    def find(self, key: bytes) -> list[int]:
        """The places of a 16-byte key, earliest first; empty when it is not there."""
        upper, lower = HALVES.unpack(key)
        found: list[int] = []
        at = bisect_left(self._uppers, upper)
        while at < len(self) and self._uppers[at] == upper:
            if self._lowers[at] == lower:
                found.append(self._places[at])
            at += 1
        return found

    def shifted(self, amount: int) -> KeyIndex:
        """The same index with ``amount`` added to every place."""
        return KeyIndex(self.upper, self.lower, self.place + np.uint64(amount))

    def save(self, path: Path, covers: int) -> None:
        """Write it atomically, with a check sum; ``covers``: bytes of the file that it is the index of."""
        body = np.concatenate([self.upper, self.lower, self.place]).astype("<u8").tobytes()
        head = b"keyindex 1 %d %d" % (len(self), covers)
        write_atomic(path, (b"%08x %s" % (zlib.crc32(head + body), head)).ljust(HEADER - 1) + b"\n" + body)

    @classmethod
    def load(cls, path: Path) -> tuple[KeyIndex, int] | None:
        """The index and how many bytes it covers; None when the file is not there or damaged."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        crc, _, head = data[: HEADER - 1].rstrip(b" ").partition(b" ")
        if data[HEADER - 1 : HEADER] != b"\n" or crc != b"%08x" % zlib.crc32(head + data[HEADER:]):
            return None
        count, covers = (int(word) for word in head.split()[2:])
        return cls(*np.frombuffer(data, "<u8", offset=HEADER).astype(np.uint64).reshape(3, count)), covers
