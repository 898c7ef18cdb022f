"""A local folder written by, or laid out for, the ``datasets`` library. Nothing is ever downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.cache import Cache, cache_folder
from vlm_selfalign.data.doubles import Doubles, told_apart
from vlm_selfalign.data.folder import CLIPS, folder
from vlm_selfalign.data.jsonl import MAX_LINE, jsonl
from vlm_selfalign.data.listing import Limit, Listing, MaxBad
from vlm_selfalign.data.manifest import COLUMNS, Rows
from vlm_selfalign.data.parquet import parquet
from vlm_selfalign.data.paths import Paths
from vlm_selfalign.data.tables import cell_bytes, split_address, table_entries
from vlm_selfalign.media.errors import printable
from vlm_selfalign.media.uris import opener, quote, unquote

if TYPE_CHECKING:
    from datasets import Dataset


@source
def datasets(
    path: str,
    limit: Limit = None,
    prompt: str | None = None,
    split: str = "train",
    outside: bool = False,
    urls: bool = False,
    columns: dict[str, str] | None = None,
    max_bad: MaxBad = 0.05,
    near_duplicates: Doubles = "auto",
) -> Listing:
    """Samples from ``save_to_disk``, from Parquet files, or from a folder of pictures or clips.

    A folder may have a ``metadata.jsonl`` whose ``file_name`` is a picture or, by the ending in its first line, a clip.

    Args:
        path: The folder or Parquet file.
        limit: At most so many samples, the first.
        prompt: What is asked when the row does not say; None asks to describe the image, or the video.
        split: Which split, where the folder holds several.
        outside: Allow absolute paths, ``..`` and links that leave the folder.
        urls: Fetch pictures from https addresses, once, into the cache folder.
        columns: What the table calls our columns, where it differs: ``{prompt: question}``.
        max_bad: Go on without bad rows up to this share of them.
        near_duplicates: As for ``folder``.

    Raises:
        UserError: No such folder or split, nothing in it, or too many bad rows.
    """
    full = Path(os.path.abspath(os.path.expanduser(path)))
    if not full.exists():
        raise UserError(
            f"{printable(path)}: no such folder, and nothing is downloaded; for a data set of the hub run first "
            "'hf download --repo-type dataset NAME --local-dir DIR' and give data.path=DIR"
        )
    full = _split(full, split)
    shared: Any = {"limit": limit, "prompt": prompt, "outside": outside, "near_duplicates": near_duplicates}
    of_rows: Any = shared | {"urls": urls, "max_bad": max_bad}
    if (full / "state.json").exists():
        _table.cache_clear()  # it may have been saved again since
        _column.cache_clear()
        with Cache(cache_folder()) as cache:
            rows = Rows(prompt, Paths(str(full), outside, urls, cache), columns or {})
            listing = Listing(path).take(table_entries(_rows(str(full), rows), rows), limit)
            return told_apart(listing.checked(max_bad), near_duplicates, cache)
    if (full / "metadata.jsonl").exists():
        named = {_kind_in(full / "metadata.jsonl"): "file_name"} | (columns or {})
        return jsonl(str(full / "metadata.jsonl"), columns=named, **of_rows)
    if full.suffix == ".parquet" or any(full.glob("*.parquet")):
        return parquet(str(full), columns=columns, **of_rows)
    return folder(str(full), **shared)


@opener("datasets")
def read_cell(uri: str) -> bytes:
    """The file at ``datasets:PATH#ROW/COLUMN[/INDEX]``."""
    path, row, column, index = split_address(uri)
    return cell_bytes(_column(unquote(path), column)[row][column], index)


def _kind_in(metadata: Path) -> str:
    with open(metadata, "rb") as file:
        first = file.readline(MAX_LINE).lower()
    return "video" if any(f'.{ending}"'.encode() in first for ending in CLIPS.split()) else "image"


def _split(full: Path, split: str) -> Path:
    """The folder of one split: of a saved ``DatasetDict``, or a sub-folder by its name."""
    if (full / "dataset_dict.json").exists() and not (full / split).is_dir():
        known = [child.name for child in full.iterdir() if child.is_dir()]
        raise UserError(f"{printable(full)}: no split '{split}'{nearest(split, known)}")
    whole = (full / "state.json").exists() or (full / "metadata.jsonl").exists()
    return full / split if not whole and (full / split).is_dir() else full


def _rows(path: str, rows: Rows) -> Iterator[tuple[str, str, dict[str, Any]]]:
    table = _table(path)
    table = table.select_columns([c for c in map(rows.theirs, COLUMNS) if c in table.column_names])
    for number, row in enumerate(table):
        yield f"row {number}", f"datasets:{quote(path)}#{number}", dict(row)


@lru_cache(maxsize=4)
def _table(path: str) -> Dataset:
    import datasets as library

    try:
        table = library.Dataset.load_from_disk(path)
    except (OSError, ValueError, KeyError) as error:
        words = str(error).split("\n")[0][:200]
        raise UserError(f"{printable(path)}: cannot be loaded ({words}); save it again with save_to_disk") from None
    undecoded = library.Features({name: _undecoded(feature, library) for name, feature in table.features.items()})
    return table.cast(undecoded)


@lru_cache(maxsize=8)
def _column(path: str, column: str) -> Dataset:
    return _table(path).select_columns([column])


def _undecoded(feature: Any, library: Any) -> Any:
    """Pictures and clips as bytes or paths: the library's own decoding is not ours and has no limits."""
    for kind in (library.Image, library.Video):
        if isinstance(feature, kind):
            return kind(decode=False)
        if isinstance(feature, library.List) and isinstance(feature.feature, kind):
            return library.List(kind(decode=False), length=feature.length)
    return feature
