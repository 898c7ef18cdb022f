"""What a run remembers: its settings, every reply, every finished sample, every fold's value and fit.

folder = open_run("runs/mine", config)             # refuses an old run with other settings
with Ledger(folder) as ledger:                     # one process at a time
    ledger.remember([(sample.id, key, reply)])     # durable when it returns
    ledger.replies(sample.id)[key]
    ledger.finished("0-pairs").append([(key, {"sample": sample.id, "rows": [...], "drop": None})])
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_selfalign.core.disk import atomic, disk_errors, make_folder, write_atomic
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lines import from_json, to_json
from vlm_selfalign.core.lock import RunLock, holder_of
from vlm_selfalign.core.requests import REPLIES, Reply
from vlm_selfalign.core.rowsfile import RowsFile, write_rows
from vlm_selfalign.core.seeds import digest, digest_bytes
from vlm_selfalign.core.segments import Corrupt, Segments

__all__ = ["MARKER", "Corrupt", "Ledger", "RowsFile", "atomic", "holder", "open_run", "write_atomic", "write_rows"]

SCHEMA = 1
MARKER = ".vlm_selfalign_run"
"""A folder with this file is a run's own and no source of media."""
LOCK = ".lock"
SHOWN = 8
MISSING: Any = object()


def holder(folder: str | Path) -> str | None:
    """The process that works in this run folder, by name; None when there is none."""
    return holder_of(Path(folder) / LOCK)


def open_run(
    folder: str | Path,
    config: Mapping[str, Any],
    may_change: Collection[str] = (),
    versions: Mapping[str, Any] | None = None,
) -> Path:
    """Make a run folder, or check that an old one was made with this config and these versions.

    ``may_change``: dotted keys (or the groups they begin with) that do not change results; when one has changed,
    ``run.json`` takes the new value and notes the old one. ``versions.*`` are keys like any other. Raises
    ``UserError`` that shows every other difference, and for a folder that holds something else.
    """
    folder = Path(folder)
    _refuse_strangers(folder)
    make_folder(folder)
    wanted = from_json(to_json({"config": config, "versions": versions or {}}))
    with RunLock(folder / LOCK):
        write_atomic(folder / MARKER, "A run of vlm_selfalign; not a source of pictures.\n")
        path = folder / "run.json"
        if not path.exists():
            _write_json(path, {"schema": SCHEMA, "created": _now(), "changes": [], **wanted})
            return folder
        old = read_run(folder)
        changed = _difference(old, wanted)
        _refuse_change(folder, {key: pair for key, pair in changed.items() if not _allowed(key, may_change)})
        if changed:
            noted = {"time": _now(), "was": {key: was for key, (was, _) in changed.items()}}
            _write_json(path, {**old, "changes": [*old["changes"], noted], **wanted})
    return folder


def read_run(folder: str | Path) -> dict[str, Any]:
    """``run.json``: schema, config, versions, when it was made, what has changed since. Raises ``UserError``."""
    path = Path(folder) / "run.json"
    try:
        found = from_json(path.read_bytes())
        schema = found["schema"]
    except FileNotFoundError:
        raise UserError(f"{folder} is no run folder: it has no run.json") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} cannot be read: restore it, or choose another out=") from None
    if schema != SCHEMA:
        raise UserError(f"{path} was written by another version (schema {schema}, not {SCHEMA}): choose another out=")
    return found


class Ledger:
    """The memory of a run in its folder; it holds the run's lock until ``close()``.

    ``write=False`` looks at a run, even one that is going on, and changes nothing.
    """

    def __init__(self, folder: str | Path, *, write: bool = True) -> None:
        self.folder, self.write = Path(folder), write
        self._home = self.folder / "ledger"
        self._finished: dict[str, Segments] = {}
        self._lock: RunLock | None = None
        if write:
            make_folder(self._home)
            self._lock = RunLock(self.folder / LOCK)
        try:
            self._replies = Segments(self._home / "replies", write=write, merge=_merge_replies)
        except BaseException:
            self.close()
            raise

    def replies(self, sample_id: str) -> dict[str, Reply]:
        """All remembered replies of a sample by key. A failure gives way to a later answer. Raises ``Corrupt``."""
        records = self._replies.get(digest(sample_id))
        found = _merge_replies(records)["replies"] if records else {}
        return {key: _reply(fields) for key, fields in found.items()}

    def remember(self, batch: Sequence[tuple[str, str, Reply]]) -> None:
        """Keep (sample id, key, reply) triples, one record per sample; durable when it returns. Raises ``TryAgain``."""
        by_sample: dict[str, dict[str, Any]] = {}
        for sample_id, key, reply in batch:
            by_sample.setdefault(sample_id, {})[key] = {"type": type(reply).__name__, **reply.model_dump()}
        self._replies.append((digest(s), {"sample": s, "replies": replies}) for s, replies in by_sample.items())

    def finished(self, stage: str) -> Segments:
        """The finished samples of a stage of a round (any relative name): key to what became of the sample."""
        if stage not in self._finished:
            self._finished[stage] = Segments(self._home / "finished" / stage, write=self.write)
        return self._finished[stage]

    def seal(self) -> None:
        """Finish all segments at hand, so that each sample's replies become one record and its index numpy."""
        for segments in (self._replies, *self._finished.values()):
            segments.seal()

    def record(self, name: str, key: str, value: Any) -> None:
        """Keep one JSON value (a fold's, a fit's record) under a name, for as long as ``key`` is its key."""
        path = self._value_path(name)
        make_folder(path.parent)
        _write_json(path, {"key": key, "check": _check(key, value), "value": value})

    def recorded(self, name: str, key: str, default: Any = None) -> Any:
        """The value kept under a name, or ``default`` when there is none with this key. Raises ``Corrupt``."""
        path = self._value_path(name)
        try:
            found = from_json(path.read_bytes())
            known, check, value = found["key"], found["check"], found["value"]
        except FileNotFoundError:
            return default
        except (ValueError, KeyError, TypeError):
            raise Corrupt(path, 0, "it is not the JSON that was written") from None
        if check != _check(known, value):
            raise Corrupt(path, 0, "its check sum is wrong")
        return value if known == key else default

    def close(self) -> None:
        """Close the files and let go of the lock; everything is durable already."""
        for segments in (*self._finished.values(), *([self._replies] if hasattr(self, "_replies") else [])):
            segments.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _value_path(self, name: str) -> Path:
        return self._home / "values" / f"{name}.json"


def _merge_replies(records: list[Any]) -> dict[str, Any]:
    """One record of a sample from several: of each key the first reply, but a failure gives way to a later one."""
    merged: dict[str, Any] = {}
    for record in records:
        for key, reply in record["replies"].items():
            if key not in merged or merged[key]["type"] == "Failed":
                merged[key] = reply
    return {"sample": records[0]["sample"], "replies": merged}


def _reply(fields: dict[str, Any]) -> Reply:
    fields = dict(fields)
    return REPLIES[fields.pop("type")].model_validate(fields)


def _check(key: str, value: Any) -> str:
    return digest_bytes(to_json([key, value]))


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(from_json(to_json(value)), indent=2) + "\n")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _refuse_strangers(folder: Path) -> None:
    """A folder of somebody's photographs must never become a run folder: they would not be read again."""
    if (folder / MARKER).exists() or not folder.is_dir():
        return
    with disk_errors(folder):
        strange = sorted({entry.name for entry in os.scandir(folder)} - {LOCK, f"{MARKER}.tmp"})
    if strange:
        raise UserError(f"{folder} is no run folder and not empty ({strange[0]} ...): choose another out=")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {
            k: v for name, part in value.items() for k, v in _flat(part, f"{path}.{name}" if path else name).items()
        }
    return {path: value}


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Dotted key -> (was, is) as JSON, for every key that differs; those of the config without ``config.``."""
    was, now = ({**_flat(run["config"]), **_flat(run["versions"], "versions")} for run in (old, new))
    pairs = {key: (_shown(was.get(key, MISSING)), _shown(now.get(key, MISSING))) for key in (*was, *now)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _shown(value: Any) -> str:
    return "nothing" if value is MISSING else to_json(value).decode("utf-8", "replace")


def _allowed(key: str, may_change: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in may_change)


def _refuse_change(folder: Path, changed: Mapping[str, tuple[str, str]]) -> None:
    if changed:
        shown = [f"{key}: {was} -> {now}" for key, (was, now) in changed.items()]
        more = f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        raise UserError(
            f"{folder} was made with other settings ({'; '.join(shown[:SHOWN])}{more}): "
            "set them back, or choose another out="
        )
