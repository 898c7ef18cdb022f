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
    rounds: int = 1


def steps_of(found: RunFolder) -> list[Step]:
    """The stages in the order of the recipe."""
    made: dict[str, list[int]] = {}
    for stage in found.rows:
        made.setdefault(stage.name, []).append(stage.count)
    lost: Counter[str] = Counter()
    for drop in found.drops:
        lost[drop["stage"]] += drop["count"]
    steps = []
    for name, spec in (found.config.get("stages") or {}).items():
        kind = next((kind for kind in KINDS if kind in spec), "")
        counts = made.get(name)
        steps.append(Step(name, kind, str(spec.get(kind, "")), sum(counts) if counts else None, lost[name],
                          len(counts or [0])))  # fmt: skip
    return steps


def model_of(config: Mapping[str, Any]) -> str:
    """What the policy started from."""
    return str((config.get("model") or {}).get("path") or "unknown")


def is_drawn(config: Mapping[str, Any]) -> bool:
    """Did the samples come from the drawn world?"""
    data = config.get("data") or {}
    return data.get("source") == "world" or (data.get("source", "auto") == "auto" and not data.get("path"))
