"""The rows of one stage on disk: read as often as wanted, in order or by sample, never all in memory.

write_rows("pairs.jsonl", rows)
rows = RowsFile("pairs.jsonl")
for row in rows: ...
rows.of(sample.id)
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlm_selfalign.core.disk import atomic, disk_errors
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.keyindex import KeyIndex
from vlm_selfalign.core.lines import from_json, line_at, lines, to_json
from vlm_selfalign.core.rows import ROW, Row
from vlm_selfalign.core.seeds import digest


def write_rows(path: str | Path, rows: Iterable[Row | dict[str, Any]]) -> int:
    """Write rows as they come, one JSON object a line, replacing the file in one step; returns how many.

    A row given as the dict it was read as is written as it is, unchecked. Raises ``TryAgain`` when the disk is full.
    """
    count = 0
    with atomic(path) as write:
        for row in rows:
            write(to_json(row) + b"\n")
            count += 1
    return count


class RowsFile:
    """Rows in file order, as often as iterated; ``of`` finds a sample's by an index of 24 bytes a row.

    Raises ``UserError`` for a missing file, and with the line's number for a line that is no row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __iter__(self) -> Iterator[Row]:
        for number, (_, line) in enumerate(self._lines(), 1):
            yield self._row(line, f"line {number}")

    def __len__(self) -> int:
        return len(self._index)

    def of(self, sample_id: str) -> list[Row]:
        """The rows of a sample, in file order; empty when it has none."""
        places = self._index.find(_key(sample_id))
        return [self._row(line_at(self._file.fileno(), place), f"byte {place}") for place in places]

    @cached_property
    def _file(self) -> Any:
        # Held open, so that an index stays true to its file when the stage writes a new one.
        if not self.path.exists():
            raise UserError(f"{self.path}: no such file; the stage that writes it has not finished")
        with disk_errors(self.path):
            return self.path.open("rb")

    @cached_property
    def _index(self) -> KeyIndex:
        keys, places = bytearray(), array("Q")
        for number, (place, line) in enumerate(self._lines(), 1):
            keys += _key(self._sample(line, number))
            places.append(place)
        return KeyIndex.of(keys, places)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        fd = self._file.fileno()
        return lines(fd, os.fstat(fd).st_size)

    def _sample(self, line: bytes, number: int) -> str:
        try:
            return from_json(line)["origin"]["sample"]
        except (ValueError, KeyError, TypeError):
            raise self._no_row(f"line {number}", "it has no origin.sample") from None

    def _row(self, line: bytes, where: str) -> Row:
        try:
            return ROW.validate_python(from_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            raise self._no_row(where, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except ValueError as error:
            raise self._no_row(where, str(error)) from None

    def _no_row(self, where: str, why: str) -> UserError:
        return UserError(f"{self.path}, {where}: not a row ({why}); delete the file and run the stage again")


def _key(sample_id: str) -> bytes:
    return bytes.fromhex(digest(sample_id))
