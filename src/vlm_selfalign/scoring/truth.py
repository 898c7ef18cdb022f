"""Reading a sample's truth: ``{"objects": [{"kind": ..., "colour": ...}, ...]}``, where it is known."""

from __future__ import annotations

from typing import Any


def objects_of(truth: Any) -> list[dict[str, Any]]:
    """The objects of a truth, or none where it holds no list of objects with a kind."""
    found = truth.get("objects", []) if isinstance(truth, dict) else []
    return [item for item in found if isinstance(item, dict) and "kind" in item]


def kinds_of(truth: Any) -> list[str]:
    """The kinds that are there, each once, sorted."""
    return sorted({str(item["kind"]) for item in objects_of(truth)})
