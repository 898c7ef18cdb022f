"""Rows of tables whose files may lie inside them, as ``{"bytes": ..., "path": ...}`` (how ``datasets`` writes)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from vlm_selfalign.data.listing import Entry, Refusal
from vlm_selfalign.data.manifest import SHOWN, Rows
from vlm_selfalign.data.paths import Inline


def table_entries(table: Iterator[tuple[str, str, dict[str, Any]]], rows: Rows) -> Iterator[Entry | Refusal]:
    """Entries of (where, address of the row, row): files inside get the address ``ROW/COLUMN`` or
    ``ROW/COLUMN/INDEX``.
    """
    for where, address, row in table:
        row = dict(row)
        for column in map(rows.theirs, chain(*SHOWN.values())):
            if column in row:
                row[column] = _inline(row[column], f"{address}/{column}")
        row[rows.theirs("truth")], fault = _truth(row.get(rows.theirs("truth")))
        yield Refusal(where, "truth is not JSON", fault) if fault else rows.entry(row, where)


def cell_bytes(cell: Any, index: str) -> bytes:
    """The bytes at the end of an address: of the cell, or of its ``index``-th file. Raises ``LookupError``."""
    found = cell[int(index)] if index else cell
    if not isinstance(found, Mapping) or not isinstance(found.get("bytes"), bytes):
        raise LookupError("no file there")
    return found["bytes"]


def split_address(uri: str) -> tuple[str, int, str, str]:
    """``scheme:PATH#ROW/COLUMN[/INDEX]`` as (quoted path, row, column, index or ``""``). Raises ``ValueError``."""
    path, _, place = uri.partition(":")[2].rpartition("#")
    row, column, index = (*place.split("/", 2), "", "")[:3]
    return path, int(row), column, index


def _inline(cell: Any, address: str) -> Any:
    if isinstance(cell, list):
        return [_inline(one, f"{address}/{index}") for index, one in enumerate(cell)]
    if isinstance(cell, Mapping) and isinstance(cell.get("bytes"), bytes):
        return Inline(address, cell["bytes"])
    return cell.get("path") if isinstance(cell, Mapping) else cell


def _truth(truth: Any) -> tuple[Any, str]:
    """The truth, and why it is none. Columns have one type, so objects of any shape often stand there as JSON text."""
    try:
        if isinstance(truth, str) and truth.lstrip().startswith(("{", "[")):
            truth = json.loads(truth)
        json.dumps(truth, allow_nan=False)
        return truth, ""
    except (ValueError, TypeError, RecursionError) as error:
        return None, str(error)[:120] or "nested too deeply"
