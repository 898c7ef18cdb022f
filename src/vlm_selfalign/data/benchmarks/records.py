"""Published annotation files, read strictly: a file of another shape is the user's mistake, a bad record is counted.

A record becomes a row as in a manifest (``vlm_selfalign.data.manifest``), so that clips are found, checked and refused
as everywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.cache import Cache, cache_folder
from vlm_selfalign.data.listing import Entry, Listing, Refusal
from vlm_selfalign.data.manifest import Rows
from vlm_selfalign.data.paths import BadRow, Paths
from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.files import open_regular
from vlm_selfalign.scoring.closed_questions import ClosedQuestion

MAX_FILE = 1 << 30
"""Bytes of an annotation file."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Asked(NamedTuple):
    """One question of a benchmark: where it stands, its name, its clip's file, its words, and the truth."""

    where: str
    name: str
    clip: str
    prompt: str
    question: ClosedQuestion
    part: tuple[float, float] | None = None
    """Seconds from and to which the clip is shown."""


Group = Sequence[Asked]
"""Questions that only count together: with one of them unusable none is taken."""


def listed(
    path: str, clips: Path, groups: Iterable[Group | Refusal], limit: int | None, max_bad: float, outside: bool
) -> Listing:
    """The samples of a benchmark, group by group as long as they fit in ``limit``; ``clips`` is what paths start at."""
    if not clips.is_dir():
        raise UserError(f"{printable(clips)}: no such folder of clips; give data.settings.clips=FOLDER")
    with Cache(cache_folder()) as cache:
        rows = Rows(None, Paths(str(clips), outside, cache=cache))
        return Listing(path).take(_entries(groups, rows, limit), limit).checked(max_bad)


def _entries(groups: Iterable[Group | Refusal], rows: Rows, limit: int | None) -> Iterator[Entry | Refusal]:
    taken = 0
    for group in groups:
        if isinstance(group, Refusal):
            yield group
            continue
        entries = [rows.entry(_row(one), one.where) for one in group]
        refused = [entry for entry in entries if isinstance(entry, Refusal)]
        taken += 0 if refused else len(group)
        if limit is not None and taken > limit:
            return
        yield from refused[:1] or entries


def _row(one: Asked) -> dict[str, Any]:
    start, end = one.part or (None, None)
    truth = one.question.truth()
    return {"video": one.clip, "prompt": one.prompt, "id": one.name, "truth": truth, "start": start, "end": end}


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises ``UserError`` naming file and line."""
    try:
        with open_regular(path, MAX_FILE) as file:
            return json.loads(file.read())
    except MediaError as error:
        raise UserError(
            f"{printable(path)}: {error.reason}; give data.path=FOLDER with the benchmark's files"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{printable(path)}: not JSON (line {error.lineno}: {error.msg}); correct it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{printable(path)}: not JSON ({str(error)[:80]}); correct it") from None


def expect(value: Any, kind: type | tuple[type, ...], path: Path, what: str) -> Any:
    """The value, or ``UserError``: the file has another shape than the published one."""
    if not isinstance(value, kind):
        raise UserError(f"{printable(path)}: {what}, not {_called(value)}; is this the file its authors publish?")
    return value


def field(record: Any, key: str, kind: type | tuple[type, ...] = str, where: str = "") -> Any:
    """A key of a record; raises ``BadRow`` naming it when it is missing, empty or of another kind."""
    if not isinstance(record, Mapping):
        raise BadRow(f"{where or 'a record'} is not an object", repr(record)[:60])
    name = f"{where}.{key}" if where else key
    value = record.get(key)
    if value is None or value == "" or value == []:
        raise BadRow(f"its {name} is missing")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadRow(f"its {name} is not {_KINDS.get(kind, 'of the right kind')}", repr(value)[:60])
    return value


def texts(record: Any, key: str) -> list[str]:
    """A key that is a list of texts; raises ``BadRow``."""
    found = list(field(record, key, (list, tuple)))
    if not all(isinstance(one, str) and one.strip() for one in found):
        raise BadRow(f"its {key} are not all texts", repr(found)[:60])
    return found


def first_of(record: Mapping[str, Any], *keys: str) -> str:
    """The first of several keys that the record has, or the first of all: older files call some otherwise."""
    return next((key for key in keys if key in record), keys[0])


def found_file(path: str, *names: str) -> Path:
    """A file as given, or the first of these in a folder; raises ``UserError``."""
    given = Path(os.path.abspath(os.path.expanduser(path)))
    if not given.is_dir():
        return given
    found = next((given / name for name in names if (given / name).is_file()), None)
    if found is None:
        raise UserError(
            f"{printable(path)}: holds no {' and no '.join(names)}; give the benchmark's folder or its file"
        )
    return found


def clips_beside(file: Path, clips: str | None, *names: str) -> Path:
    """The folder of clips as given, or the first of these (relative to the file's folder) that is there."""
    if clips is not None:
        return Path(os.path.abspath(os.path.expanduser(clips)))
    return next((file.parent / name for name in names if (file.parent / name).is_dir()), file.parent / names[0])


def _called(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text"}.get(type(value), type(value).__name__)


_KINDS: dict[Any, str] = {str: "text", (list, tuple): "a list", (int, float): "a number"}
