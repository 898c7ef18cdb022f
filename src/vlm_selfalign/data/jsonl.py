"""A manifest with one JSON object per line; a bad line is told by its number and the rest goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.cache import Cache, cache_folder
from vlm_selfalign.data.doubles import Doubles, told_apart
from vlm_selfalign.data.listing import Entry, Limit, Listing, MaxBad, Refusal
from vlm_selfalign.data.manifest import Rows
from vlm_selfalign.data.paths import Paths
from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.files import open_regular

MAX_LINE = 1 << 20
"""Bytes."""
MAX_MANIFEST = 64 << 30


@source
def jsonl(
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
    """Samples from a JSONL manifest (columns: see ``vlm_selfalign.data.manifest``).

    Args:
        path: The manifest, UTF-8.
        limit: At most so many samples, the first in the file.
        prompt: What is asked when the line does not say; None asks to describe the image, or the video.
        root: Folder that paths are relative to; the manifest's own by default.
        outside: Allow absolute paths, ``..`` and links that leave ``root``.
        urls: Fetch pictures from https addresses, once, into the cache folder.
        columns: What the manifest calls our columns, where it differs: ``{prompt: question}``.
        max_bad: Go on without bad lines up to this share of them.
        near_duplicates: As for ``folder``.

    Raises:
        UserError: No such file, nothing in it, or too many bad lines (the first three are named).
    """
    full = os.path.abspath(os.path.expanduser(path))
    home = os.path.abspath(root) if root else os.path.dirname(full)
    try:
        file = open_regular(full, MAX_MANIFEST)
    except MediaError as error:
        raise UserError(f"{printable(path)}: {error.reason}; give data.path=MANIFEST.jsonl") from None
    with file, Cache(cache_folder()) as cache:
        rows = Rows(prompt, Paths(home, outside, urls, cache), columns or {})
        found = _entries(file, rows, printable(os.path.basename(path)))
        return told_apart(Listing(path).take(found, limit).checked(max_bad), near_duplicates, cache)


def _entries(file: BufferedReader, rows: Rows, name: str) -> Iterator[Entry | Refusal]:
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            where = f"{name}:{number}"
            try:
                value = parse_line(line.removeprefix(b"\xef\xbb\xbf"))
            except (ValueError, RecursionError) as error:
                yield Refusal(where, "not JSON", _fault(error))
            else:
                yield rows.entry(value, where)


def _fault(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]


def _lines(file: BufferedReader) -> Iterator[bytes]:
    """Lines; of one that is over the cap only its beginning, which ``parse_line`` refuses."""
    while line := file.readline(MAX_LINE + 2):
        rest = line
        while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE + 2)
        yield line


def parse_line(line: bytes) -> Any:
    """Strict JSON of one line: UTF-8, finite numbers, each key once, no half characters. Raises ``ValueError``."""
    if len(line) > MAX_LINE + 1:
        raise ValueError(f"a line of over {MAX_LINE:,} bytes")
    text = line.decode("utf-8")
    value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
    if "\\ud" in text.lower():  # only an escape can smuggle half a surrogate pair in
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key '{next(key for key in keys if keys.count(key) > 1)}' is given twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; use null")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number
