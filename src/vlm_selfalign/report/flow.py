"""The recipe of a run in a few words: its stages, what each made, and the model it started from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlm_selfalign.report.folder import RunFolder

KINDS = ("method", "fold", "fit")


@dataclass(frozen=True)
class Step:
    """One stage of the recipe; ``made`` and ``lost`` are rows, summed over rounds."""

    name: str
    kind: str
    what: str
    made: int | None
    lost: int
    rounds: int
    trained: int
    """Optimizer steps."""


def steps_of(found: RunFolder) -> list[Step]:
    """The stages in the order of the recipe."""
    made: dict[str, list[int]] = {}
    for stage in found.rows:
        made.setdefault(stage.name, []).append(stage.count)
    lost: Counter[str] = Counter()
    for drop in found.drops:
        lost[drop["stage"]] += drop["count"]
    return [_step(name, spec, made.get(name), lost[name], found) for name, spec in _stages(found).items()]


def _step(name: str, spec: Mapping[str, Any], counts: list[int] | None, lost: int, found: RunFolder) -> Step:
    kind = next((kind for kind in KINDS if kind in spec), "")
    role = str(spec.get("role") or "policy")
    logs = [log for log in found.logs if kind == "fit" and log.role in (role, f"{role}-{name}")]
    trained = sum(int(log.lines[-1].get("step", len(log.lines))) for log in logs)
    rounds = len(counts or logs)
    return Step(name, kind, str(spec.get(kind, "")), sum(counts) if counts else None, lost, rounds, trained)


def _stages(found: RunFolder) -> Mapping[str, Mapping[str, Any]]:
    return found.config.get("stages") or {}


def model_of(config: Mapping[str, Any]) -> str:
    """What the policy started from."""
    return str((config.get("model") or {}).get("path") or "unknown")


def is_drawn(config: Mapping[str, Any]) -> bool:
    """Did the samples come from the drawn world?"""
    data = config.get("data") or {}
    return data.get("source") in ("world", "worldclip") or (
        data.get("source", "auto") == "auto" and not data.get("path")
    )
