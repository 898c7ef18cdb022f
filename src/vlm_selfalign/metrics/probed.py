"""What probes answered, as measures: plain ratios, and of closed questions pairs, the lean to yes and parts.

A row says in its ``notes`` which ``measure`` it counts for, as ``num`` over ``den`` (else its label over one), and
which ``cluster`` it is about where that is not its sample; a ``truth`` with a closed question makes it a row of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.metrics.parts import by_frames, by_length, question_measures
from vlm_selfalign.metrics.questions import Asked
from vlm_selfalign.scoring.closed_questions import question_of

LOWER = frozenset(("kl_per_token", "contradiction", "questions_unread", "questions_fit_wrong_clip"))
"""Measures of probes of which less is better."""

Probed = Mapping[str, Sequence[Labelled]]
"""Rows by the sample they belong to."""


def probe_measures(rows: Probed) -> dict[str, Measure]:
    """Every measure by name; of closed questions also ``name/both_right``, ``name/yes_difference`` and their like."""
    found = {name: Measure.of(name, items, name in LOWER) for name, items in _items(rows).items()}
    for name, asked in closed(rows).items():
        whole = [row for row in asked if row.frames is None]
        more = question_measures(whole)
        # Chosen, not written: nothing can be unread, and no is what yes is not.
        never = {"accuracy"} | ({"unparsed", "no_difference"} if _chosen(rows, name) else set())
        found |= {
            f"{name}/{key}": one.model_copy(update={"name": f"{name}/{key}"})
            for key, one in more.items()
            if key not in never and one.value is not None
        }
    return found


def probe_parts(rows: Probed, shown: int | None = None) -> dict[str, dict[str, dict[str, Measure]]]:
    """Accuracies by length of the clip and by number of frames: {measure: {"length" or "frames": {part: measure}}}.

    Only what has more than one part. ``shown``: frames of a clip where a row does not say.
    """
    found: dict[str, dict[str, dict[str, Measure]]] = {}
    for name, asked in closed(rows).items():
        whole = [row for row in asked if row.frames is None]
        ways = {"length": by_length(whole), "frames": by_frames([_framed(row, shown) for row in asked])}
        found[name] = {way: parts for way, parts in ways.items() if len(parts) > 1}
    return {name: ways for name, ways in found.items() if ways}


def closed(rows: Probed) -> dict[str, list[Asked]]:
    """The closed questions by measure."""
    found: dict[str, list[Asked]] = {}
    for row in _rows(rows):
        question = question_of(row.notes.get("truth"))
        if question is not None:
            one = Asked(question, row.notes.get("said"), frames=row.notes.get("frames"))
            found.setdefault(row.notes["measure"], []).append(one)
    return found


def self_asked(rows: Probed) -> dict[str, Any] | None:
    """How many questions a model asked itself, of which kinds; None where it was not asked to."""
    asked = [row for row in _rows(rows) if row.notes["measure"] == "questions_answerable"]
    if not asked:
        return None
    kinds: dict[str, list[Labelled]] = {}
    for row in asked:
        kinds.setdefault(row.notes.get("kind") or "none", []).append(row)
    listed = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    return {
        "questions": len(asked),
        "distinct": len({row.answer.lower() for row in asked}),
        "kinds": [{"kind": name, "count": len(of), "example": of[len(of) // 2].answer} for name, of in listed],
    }


def _items(rows: Probed) -> dict[str, list[Item]]:
    items: dict[str, list[Item]] = {}
    for sample in sorted(rows):
        for row in rows[sample]:
            if row.notes.get("frames") is None:
                num, den = row.notes.get("num", row.label), row.notes.get("den", 1)
                item = Item(row.notes.get("cluster", sample), float(num), float(den))
                items.setdefault(row.notes["measure"], []).append(item)
    return items


def _rows(rows: Probed) -> Iterable[Labelled]:
    return (row for sample in sorted(rows) for row in rows[sample])


def _chosen(rows: Probed, name: str) -> bool:
    return all("p_yes" in row.notes for row in _rows(rows) if row.notes["measure"] == name)


def _framed(row: Asked, shown: int | None) -> Asked:
    return Asked(row.question, row.said, row.protocol, shown if row.frames is None else row.frames)
