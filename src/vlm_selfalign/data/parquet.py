"""A Parquet table as a manifest; its pictures and clips may be paths or lie inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.cache import Cache, cache_folder
from vlm_selfalign.data.doubles import Doubles, told_apart
from vlm_selfalign.data.listing import Limit, Listing, MaxBad
from vlm_selfalign.data.manifest import COLUMNS, SHOWN, Rows
from vlm_selfalign.data.paths import Paths
from vlm_selfalign.data.tables import cell_bytes, split_address, table_entries
from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.files import open_regular
from vlm_selfalign.media.uris import opener, quote, unquote

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

MAX_TABLE = 1 << 40
BATCH = 64
"""Rows read at once: pictures inside may be megabytes each. Clips may be more: they are read one by one."""


@source
def parquet(
    path: str,
    limit: Limit = None,
    prompt: str | None = None,
    root: str | None = None,
    outside: bool = False,
    urls: bool = False,
    columns: dict[str, str] | None = None,
    max_bad: MaxBad = 0.05,
    near_duplicates: Doubles = "auto",
) -> Listing:
    """Samples from a Parquet file, or from all in a folder (columns: see ``vlm_selfalign.data.manifest``).

    Args:
        path: The file or folder.
        limit: At most so many samples, the first.
        prompt: What is asked when the row does not say; None asks to describe the image, or the video.
        root: Folder that paths are relative to; the table's own by default.
        outside: Allow absolute paths, ``..`` and links that leave ``root``.
        urls: Fetch pictures from https addresses, once, into the cache folder.
        columns: What the table calls our columns, where it differs: ``{prompt: question}``.
        max_bad: Go on without bad rows up to this share of them.
        near_duplicates: As for ``folder``.

    Raises:
        UserError: No such table, nothing in it, or too many bad rows (the first three are named).
    """
    _opened.cache_clear()  # a table may have been written again since
    _column.cache_clear()
    files = _files(path)
    home = os.path.abspath(root) if root else os.path.dirname(files[0])
    with Cache(cache_folder()) as cache:
        rows = Rows(prompt, Paths(home, outside, urls, cache), columns or {})
        listing = Listing(path).take(table_entries(_rows(files, rows), rows), limit)
        return told_apart(listing.checked(max_bad), near_duplicates, cache)


@opener("parquet")
def read_cell(uri: str) -> bytes:
    """The file at ``parquet:PATH#ROW/COLUMN[/INDEX]``."""
    path, row, column, index = split_address(uri)
    file = _opened(unquote(path))
    for group in range(file.num_row_groups):
        length = file.metadata.row_group(group).num_rows
        if 0 <= row < length:
            return cell_bytes(_column(unquote(path), group, column)[row].as_py(), index)
        row -= length
    raise LookupError("no such row")


def _files(path: str) -> list[str]:
    full = os.path.abspath(os.path.expanduser(path))
    files = sorted(map(str, Path(full).rglob("*.parquet"))) if os.path.isdir(full) else [full]
    if not files or not os.path.exists(files[0]):
        raise UserError(f"{printable(path)}: no Parquet file there; give data.path=TABLE.parquet")
    return files


def _rows(files: list[str], rows: Rows) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in files:
        try:
            file = _opened(path)
            held = [column for column in map(rows.theirs, COLUMNS) if column in file.schema_arrow.names]
            clips = {rows.theirs(column) for column in SHOWN["video"]} & set(held)
            number = 0
            for batch in file.iter_batches(1 if clips else BATCH, columns=held or None):
                for row in batch.to_pylist():
                    yield f"{printable(os.path.basename(path))}:{number}", f"parquet:{quote(path)}#{number}", row
                    number += 1
        except (OSError, ValueError, MediaError) as error:
            words = str(error).split("\n")[0][:200]
            raise UserError(f"{printable(path)}: not a readable Parquet file ({words}); write it again") from None


@lru_cache(maxsize=4)
def _opened(path: str) -> ParquetFile:
    import pyarrow.parquet

    open_regular(path, MAX_TABLE).close()
    return pyarrow.parquet.ParquetFile(path)


@lru_cache(maxsize=4)
def _column(path: str, group: int, column: str) -> Any:
    """One column of one row group, kept because files are mostly asked for in order."""
    return _opened(path).read_row_group(group, columns=[column]).column(0)
