"""An append-only log of keyed records that survives kills, full disks and power cuts, and notices rot.

    log = Segments(folder)
    log.append([(key, payload), ...])      # one write, one sync: durable when it returns
    log.first(key), log.get(key), key in log

Records lie in segment files (``000000.log``, 64 MiB each; ``core.lines`` has the format). A full segment is sealed
with a sidecar index and never written again. On opening, the unsealed segment is read through and what a cut-short
write left behind its last good line is cut off; anything else that is not as it was written raises ``Corrupt``.
Only one ``Segments`` may write to a folder at a time (``core.lock``), from one thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlm_selfalign.core.disk import atomic, disk_errors, make_folder, sync_folder, write_all
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.keyindex import KeyIndex
from vlm_selfalign.core.lines import Line, decode, encode, line_at, lines, to_json

log = logging.getLogger(__name__)

OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1
OPEN_FILES = 64
IDS_AT_ONCE = 10_000


class Corrupt(UserError):
    """Data that was durable is no longer what was written (``file``, ``offset``)."""

    def __init__(self, file: Path, offset: int, what: str = "a line is not what was written") -> None:
        aside = f"restore it, or rename it to {file.name}.bad and its work is done again"
        super().__init__(f"{file}: damaged at byte {offset} ({what}): {aside}")
        self.file, self.offset = file, offset


class Segments:
    """A keyed log in ``folder``; the first record of a key counts, later ones are kept.

    ``write=False`` looks at a log, even one that another process is writing, and changes nothing. ``merge`` turns all
    records of a key within a segment into one when the segment is sealed. ``damaged="skip"`` leaves damaged records
    out and counts them in ``skipped``; otherwise they raise ``Corrupt``. ``cut``: bytes of an unfinished write that
    were cut off, or passed over when only looking.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        write: bool = True,
        merge: Callable[[list[Any]], Any] | None = None,
        segment_bytes: int = 64 << 20,
        segment_records: int = 100_000,
        damaged: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.folder, self.write, self.merge, self.damaged = Path(folder), write, merge, damaged
        # A segment is also full after so many records: only the unsealed one holds Python objects.
        self.segment_bytes, self.segment_records = segment_bytes, segment_records
        self.cut = self.skipped = 0
        self._fds: dict[int, int] = {}
        self._load()

    # Reading

    def __len__(self) -> int:
        return len(self._sealed) + self._count

    def __contains__(self, key: str) -> bool:
        raw = bytes.fromhex(key)
        return raw in self._open or bool(self._sealed.find(raw))

    def get(self, key: str) -> list[Any]:
        """All records of a key, in the order they were appended. Raises ``Corrupt``."""
        return list(self._records(bytes.fromhex(key)))

    def first(self, key: str) -> Any | None:
        """The record of a key, or None. Raises ``Corrupt``."""
        return next(self._records(bytes.fromhex(key)), None)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """(key, record) of everything in file order. Raises ``Corrupt``."""
        return ((line.key.hex(), line.payload) for _, line in self._everything())

    def ordered(self, by: str) -> Iterator[tuple[str, Any]]:
        """(key, record) sorted by the text field ``by``, the first record of each key only.

        Sorts places, not records: some 8 bytes and the text's length per record.
        """
        chunks: list[np.ndarray] = []
        texts: list[bytes] = []
        places = array("Q")
        for place, line in self._everything():
            if self._is_first(place, line.key):
                places.append(place)
                texts.append(line.payload[by].encode("utf-8", "surrogatepass"))
                if len(texts) == IDS_AT_ONCE:
                    chunks.append(np.array(texts))
                    texts.clear()
        chunks.append(np.array(texts, dtype=bytes))
        order = np.argsort(np.concatenate(chunks), kind="stable")
        del chunks, texts
        for place in np.frombuffer(places, np.uint64)[order]:
            if line := self._line(int(place)):
                yield line.key.hex(), line.payload

    def _is_first(self, place: int, key: bytes) -> bool:
        places = list(self._places(key))
        return len(places) == 1 or next(p for p in places if self._line(p, key)) == place

    def _records(self, key: bytes) -> Iterator[Any]:
        for place in self._places(key):
            if line := self._line(place, key):
                yield line.payload

    def _places(self, key: bytes) -> Iterator[int]:
        yield from self._sealed.find(key)
        for offset in self._open.get(key, ()):
            yield self._number << OFFSET_BITS | offset

    def _line(self, place: int, key: bytes | None = None) -> Line | None:
        number, offset = place >> OFFSET_BITS, place & OFFSET_MASK
        with disk_errors(self._path(number)):
            line = decode(line_at(self._fd(number), offset))
        if line is None or (key is not None and line.key != key):
            self._damage(number, offset)
            return None
        return line

    def _everything(self) -> Iterator[tuple[int, Line]]:
        for number in range(self._number + 1):
            if self._path(number).exists():
                fd = self._fd(number)
                end = self._end if number == self._number else os.fstat(fd).st_size
                for offset, data in lines(fd, end):
                    if line := decode(data):
                        yield number << OFFSET_BITS | offset, line
                    else:
                        self._damage(number, offset)

    def _damage(self, number: int, offset: int, what: str = "a line is not what was written") -> None:
        if self.damaged == "raise":
            raise Corrupt(self._path(number), offset, what)
        self.skipped += 1

    # Writing

    def append(self, items: Iterable[tuple[str, Any]]) -> None:
        """Add a batch of (key, record): all of it is durable when this returns, none of it when it raises.

        Keys are 32 hex digits, records anything JSON can hold. Raises ``TryAgain`` when the disk is full or failing;
        the log is then as it was before and the same call may be made again.
        """
        batch = [(_raw(key), to_json(payload)) for key, payload in items]
        if not batch:
            return
        fd = self._ready()
        written = [encode(key, data, starts=not place) for place, (key, data) in enumerate(batch)]
        self._dirty = True
        try:
            with disk_errors(self._path(self._number)):
                write_all(fd, b"".join(written), self._end)
                os.fsync(fd)
        except BaseException:
            with contextlib.suppress(OSError):  # then the next append cuts back, or the next opening does
                self._cut_back(fd)
            raise
        for (key, _), line in zip(batch, written, strict=True):
            self._open.setdefault(key, []).append(self._end)
            self._end += len(line)
            self._count += 1
        self._dirty = False

    def seal(self) -> None:
        """Finish the segment at hand: merge the records of each key, write its index. Raises ``TryAgain``."""
        self._repair()
        if not self._open:
            return
        # Until both files are in place memory and disk may disagree; then the next append reads the disk again.
        self._stale = True
        if self.merge and self._count > len(self._open):
            self._compact(self.merge)
        keys = b"".join(key * len(offsets) for key, offsets in self._open.items())
        index = KeyIndex.of(keys, [offset for offsets in self._open.values() for offset in offsets])
        index.save(self._sidecar(self._number), self._end)
        self._sealed = KeyIndex.joined([self._sealed, index.shifted(self._number << OFFSET_BITS)])
        self._begin(self._number + 1)

    def close(self) -> None:
        """Close the files; everything appended is durable already."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def __enter__(self) -> Segments:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _ready(self) -> int:
        """The file to append to: as it should be, and with room."""
        self._repair()
        if self._end >= self.segment_bytes or self._count >= self.segment_records:
            self.seal()
        if not self._path(self._number).exists():
            make_folder(self.folder)
            with disk_errors(self._path(self._number)):
                os.close(os.open(self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
                sync_folder(self.folder)
        return self._fd(self._number)

    def _repair(self) -> None:
        """Undo what a failed append or seal may have left."""
        if not self.write:
            raise ValueError(f"{self.folder} was opened to be read only")
        if self._stale:
            self._load()
        if self._dirty:
            with disk_errors(self._path(self._number)):
                self._cut_back(self._fd(self._number))

    def _cut_back(self, fd: int) -> None:
        os.ftruncate(fd, self._end)
        os.fsync(fd)
        self._dirty = False

    def _compact(self, merge: Callable[[list[Any]], Any]) -> None:
        """Rewrite the unsealed segment with one line per key."""
        opened: dict[bytes, list[int]] = {}
        end = 0
        with atomic(self._path(self._number)) as write:
            for key, offsets in self._open.items():
                found = [line for offset in offsets if (line := self._line(self._number << OFFSET_BITS | offset, key))]
                if found:
                    data = found[0].json if len(found) == 1 else to_json(merge([line.payload for line in found]))
                    line = encode(key, data, starts=True)
                    write(line)
                    opened[key] = [end]
                    end += len(line)
        os.close(self._fds.pop(self._number))
        self._open, self._end, self._count = opened, end, len(opened)

    # Opening

    def _load(self) -> None:
        """Read what is on disk; cut off what a write that was cut short left."""
        self.close()
        self._sealed = KeyIndex.joined([])
        self._begin(0)
        try:
            self._load_segments()
        except BaseException:
            self._stale = True
            raise

    def _load_segments(self) -> None:
        names = {path.name for path in self.folder.glob("[0-9]*.log*")}
        numbers = {int(name.split(".")[0]) for name in names if name.endswith((".log", ".log.bad"))}
        parts: list[KeyIndex] = []
        for number in range(max(numbers, default=-1) + 1):
            if f"{number:06d}.log.bad" in names:
                log.warning("%s: set aside as damaged; its work is done again", self._path(number))
                self._begin(number + 1)
            elif number not in numbers:
                raise Corrupt(self._path(number), 0, "the file is missing")
            elif number < max(numbers) or self._sidecar(number).exists():
                parts.append(self._sealed_index(number).shifted(number << OFFSET_BITS))
                self._begin(number + 1)
            else:
                self._begin(number)
                self._scan_open(number)
        self._sealed = KeyIndex.joined(parts)

    def _begin(self, number: int) -> None:
        self._number = number
        self._open: dict[bytes, list[int]] = {}
        self._end = self._count = 0
        self._dirty = self._stale = False

    def _sealed_index(self, number: int) -> KeyIndex:
        fd = self._fd(number)
        size = os.fstat(fd).st_size
        loaded = KeyIndex.load(self._sidecar(number))
        if loaded:
            if loaded[1] != size:
                self._damage(number, min(size, loaded[1]), f"it has {size} bytes, its index says {loaded[1]}")
            return loaded[0]
        log.warning("%s: missing or damaged, built again", self._sidecar(number))
        keys, offsets = bytearray(), array("Q")
        for offset, data in lines(fd, size):
            if line := decode(data):
                keys += line.key
                offsets.append(offset)
            else:
                self._damage(number, offset)
        index = KeyIndex.of(keys, offsets)
        if self.write:
            index.save(self._sidecar(number), size)
        return index

    def _scan_open(self, number: int) -> None:
        fd = self._fd(number)
        size = os.fstat(fd).st_size
        found: list[tuple[bytes, int]] = []
        bad: list[int] = []
        last_batch = 0
        for offset, data in lines(fd, size):
            if line := decode(data):
                found.append((line.key, offset))
                last_batch = offset if line.starts else last_batch
            else:
                bad.append(offset)
        for offset in bad:
            if offset < last_batch:  # a later batch was begun, so this one had been synced: rot, not a torn write
                self._damage(number, offset)
        self._end = next((offset for offset in bad if offset >= last_batch), size)
        for key, offset in found:
            if offset < self._end:
                self._open.setdefault(key, []).append(offset)
                self._count += 1
        self.cut = size - self._end
        if self.cut and self.write:
            log.warning("%s: cut %d bytes of an unfinished write", self._path(number), self.cut)
            with disk_errors(self._path(number)):
                self._cut_back(fd)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.log"

    def _sidecar(self, number: int) -> Path:
        return self.folder / f"{number:06d}.index"

    def _fd(self, number: int) -> int:
        if number not in self._fds:
            for old in [n for n in self._fds if n != self._number][: max(0, len(self._fds) - OPEN_FILES + 1)]:
                os.close(self._fds.pop(old))
            flags = os.O_RDWR if self.write and number == self._number else os.O_RDONLY
            with disk_errors(self._path(number)):
                self._fds[number] = os.open(self._path(number), flags | os.O_CLOEXEC)
        return self._fds[number]


def _raw(key: str) -> bytes:
    raw = bytes.fromhex(key)
    if len(raw) != 16:
        raise ValueError(f"a key has 32 hex digits, not {key!r}")
    return raw
