"""What was found out about files before, so that listing them again costs little more than asking for their sizes.

One small SQLite file in the user's cache folder, never among the user's media. Nothing in it is needed and nothing in
it is believed: every value carries a check sum, a damaged file is made anew, and one that cannot be used costs time
only. It knows no names and no paths, only digests of them. Several processes may use it at once.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vlm_selfalign.core.ledger import MARKER

VARIABLE = "VLM_SELFALIGN_CACHE"
MAX_BYTES = 256 << 20
"""Some five million files; a larger cache is thrown away and begun again."""

FLUSH = 1.0
"""Seconds of work that a killed process may lose."""

WAIT = 30.0
"""Seconds to wait for another process that reads or writes."""

HELD = 0.1
"""Seconds for which reads share a lock, which costs more than the read; meanwhile others wait to write."""


def cache_folder() -> Path | None:
    """``$VLM_SELFALIGN_CACHE``, or ``vlm_selfalign`` in the user's cache folder; None where the variable is empty."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return Path(given).expanduser().absolute() if given else None
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "vlm_selfalign"


class Cache:
    """Short byte strings by what they are about; without a folder it forgets everything when it is closed.

    with Cache(cache_folder()) as cache:
        cache.put(b"...", "image", inode, size, changed)
        cache.get("image", inode, size, changed)
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._path = folder / "known.sqlite" if folder else None
        self.fresh: dict[bytes, bytes] = {}
        """What is not in the file yet, as another cache may ``learn`` it."""
        self._flushed = self._began = time.monotonic()
        self._file = self._opened() or self._opened()  # the second time without the file that was damaged

    def get(self, *what: Any) -> bytes | None:
        """The value, if it is known and undamaged."""
        key = _key(what)
        found = self.fresh.get(key) or self._stored(key)
        if found is None or _sum(key, found[4:]) != found[:4]:
            return None
        return found[4:]

    def put(self, value: bytes, *what: Any) -> None:
        """Remember a value: at once for this object, within about a second for others."""
        key = _key(what)
        self.learn({key: _sum(key, value) + value})

    def learn(self, fresh: Mapping[bytes, bytes]) -> None:
        """Remember what another cache holds that is not in its file."""
        self.fresh.update(fresh)
        if self._file and time.monotonic() - self._flushed > FLUSH:
            self.flush()

    def release(self) -> None:
        """Let others write: to be called before work that takes long."""
        if self._file:
            self._file.commit()

    def flush(self) -> None:
        """Write what is new, in one short transaction."""
        self._flushed = time.monotonic()
        if self._file is None or not self.fresh:
            return
        try:
            with self._file:
                self._file.commit()
                self._file.execute("begin immediate")
                self._file.executemany("insert or replace into known values (?, ?)", self.fresh.items())
            self.fresh.clear()
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Flush and let go of the file."""
        self.flush()
        if self._file:
            self._file.close()
        self._file = None

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _opened(self) -> sqlite3.Connection | None:
        if self.folder is None or self._path is None:
            return None
        try:
            _make(self.folder)
            if self._path.exists() and self._path.stat().st_size > MAX_BYTES:
                self._path.unlink()
            file = sqlite3.connect(self._path, timeout=WAIT, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            return self._give_up(error)
        try:
            # No journal beside the file: a damaged file is thrown away, and its journal would be played into the next.
            file.execute("pragma journal_mode = memory")
            file.execute("pragma synchronous = off")
            file.execute("create table if not exists known (key blob primary key, value blob) without rowid")
            return file
        except sqlite3.Error as error:
            file.close()
            return self._give_up(error)

    def _stored(self, key: bytes) -> bytes | None:
        if self._file is None:
            return None
        try:
            if not self._file.in_transaction:
                self._began = time.monotonic()
                self._file.execute("begin")
            row = self._file.execute("select value from known where key = ?", (key,)).fetchone()
            if time.monotonic() - self._began > HELD:
                self._file.commit()
        except sqlite3.Error as error:
            return self._give_up(error)
        return row[0] if row and isinstance(row[0], bytes) else None

    def _give_up(self, error: Exception) -> None:
        """Go on without the file; a damaged one is removed."""
        self._file = None
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged and self._path is not None:
            self._path.unlink(missing_ok=True)
            return
        warnings.warn(f"{self._path}: cannot be used ({error}); files are checked anew each time", stacklevel=4)


def _make(folder: Path) -> None:
    """The folder, marked so that nothing in it is ever listed as the user's own media."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker = folder / MARKER
    if not marker.exists():
        marker.write_text("The cache of vlm_selfalign; may be deleted at any time. Not a source of pictures.\n")


def _key(what: tuple[Any, ...]) -> bytes:
    return hashlib.blake2b(repr(what).encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _sum(key: bytes, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key)).to_bytes(4, "big")
