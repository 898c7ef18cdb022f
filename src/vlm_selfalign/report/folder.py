"""A run directory as the page reads it: whatever is there, finished or not, in plain Python values.

``run.json``, ``rounds/<n>/<stage>.jsonl`` (rows) or ``.json`` (a value), ``rounds/<n>/<role>/log.jsonl``,
``drops.jsonl``, ``progress.json``, ``metrics.json`` and ``sweep.json``; only the first must exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lines import from_json, growing_lines
from vlm_selfalign.core.rows import ROW, Row

WORK = ".work"
"""Ending of the folder in which a version grows until it is published."""


@dataclass(frozen=True)
class StageRows:
    """The rows one stage left in one round."""

    round: int
    name: str
    path: Path

    @cached_property
    def count(self) -> int:
        """How many rows there are."""
        with self.path.open("rb") as file:
            return sum(1 for line in file if line.strip())

    @cached_property
    def kind(self) -> str:
        """``pair``, ``demo``, ... of the first row, or ``""``."""
        return next((row.kind for row in self.spread(1)), "")

    def spread(self, most: int) -> Iterator[Row]:
        """At most ``most`` rows, evenly spaced over the file: a sample that nobody picked by hand."""
        count = self.count
        wanted = {place * count // most for place in range(most)} if count > most else set(range(count))
        with self.path.open("rb") as file:
            for place, line in enumerate(line for line in file if line.strip()):
                if place in wanted:
                    yield _row(line, self.path)


@dataclass(frozen=True)
class TrainingLog:
    """The log of one fit, a mapping per optimizer step."""

    round: int
    role: str
    lines: list[dict[str, float]]
    published: bool


@dataclass
class RunFolder:
    """What a run directory holds. Raises ``UserError`` when it is none, or when a file of it is no JSON."""

    path: Path
    run: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        if not (self.path / "run.json").is_file():
            raise UserError(f"{self.path}: not a run directory (no run.json)")
        self.run = _mapping(self.path / "run.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The merged settings of the run."""
        for key in ("config", "settings"):
            if isinstance(self.run.get(key), dict):
                return self.run[key]
        return self.run if "stages" in self.run else {}

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What was measured; empty when nothing was."""
        path = self.path / "metrics.json"
        return _mapping(path) if path.is_file() else {}

    @cached_property
    def sweep(self) -> dict[str, Any]:
        """Several losses on the same pairs; empty when nothing was swept."""
        path = self.path / "sweep.json"
        return _mapping(path) if path.is_file() else {}

    @cached_property
    def progress(self) -> dict[str, Any]:
        """Where the run is or stopped."""
        path = self.path / "progress.json"
        return _mapping(path) if path.is_file() else {}

    @cached_property
    def drops(self) -> list[dict[str, Any]]:
        """Rows and samples that left, by round, stage and reason."""
        return growing_lines(self.path / "drops.jsonl")

    @cached_property
    def rows(self) -> list[StageRows]:
        """All stages that left rows: round by round, in the order of the recipe."""
        order = {name: place for place, name in enumerate(self.config.get("stages") or {})}
        found = [
            StageRows(int(path.parent.name), path.stem, path)
            for path in self.path.glob("rounds/*/*.jsonl")
            if path.parent.name.isdigit()
        ]
        return sorted(found, key=lambda stage: (stage.round, order.get(stage.name, len(order)), stage.name))

    @cached_property
    def values(self) -> list[tuple[int, str, Any]]:
        """(round, stage, value) of all stages that left a value instead of rows."""
        paths = sorted(p for p in self.path.glob("rounds/*/*.json") if p.parent.name.isdigit())
        return [(int(path.parent.name), path.stem, _parsed(path)) for path in paths]

    @cached_property
    def logs(self) -> list[TrainingLog]:
        """The logs of all fits with at least one step; of a version still growing, what there is."""
        found: dict[tuple[int, str], TrainingLog] = {}
        for path in sorted(self.path.glob("rounds/*/*/log.jsonl")):
            if not path.parts[-3].isdigit():
                continue
            role, lines = path.parent.name, growing_lines(path)
            key, published = (int(path.parts[-3]), role.removesuffix(WORK)), not role.endswith(WORK)
            if lines and (published or key not in found):
                found[key] = TrainingLog(*key, lines, published)
        return [found[key] for key in sorted(found)]

    @cached_property
    def learnt(self) -> list[StageRows]:
        """The stages whose rows a fit learnt from, or, before any fit is known, the last one that left rows."""
        stages = self.config.get("stages") or {}
        named = {name for spec in stages.values() if "fit" in spec for name in _names(spec.get("rows"))}
        return [stage for stage in self.rows if stage.name in named] or self.rows[-1:]


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _row(line: bytes, path: Path) -> Row:
    try:
        return ROW.validate_python(from_json(line))
    except ValueError as error:
        raise UserError(f"{path}: holds a line that is no row ({str(error).splitlines()[0]})") from None


def _parsed(path: Path) -> Any:
    try:
        return from_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); measure again or move it away") from None


def _mapping(path: Path) -> dict[str, Any]:
    value = _parsed(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
