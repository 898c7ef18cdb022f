"""Measures of parts: by what questions are tagged with, by the length of clips, by the number of frames shown."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from vlm_selfalign.core.registry import metric
from vlm_selfalign.metrics.items import Measure
from vlm_selfalign.metrics.pairs import (
    SETS,
    both_right,
    hallucinated,
    mean_of_sets,
    pairs,
    reversal_consistency,
    yes_bias,
)
from vlm_selfalign.metrics.questions import Asked, accuracy, asked, unparsed
from vlm_selfalign.scoring.published import Protocol

T = TypeVar("T")

BANDS = (10.0, 60.0, 240.0)
"""Seconds at which clips are divided by length."""


def divided(
    rows: Iterable[T], key: Callable[[T], Hashable], measured: Callable[[list[T]], Measure]
) -> dict[str, Measure]:
    """A measure of each part of the rows by name, in order of the names; None as a key is "unknown"."""
    parts: dict[str, list[T]] = {}
    for row in rows:
        name = key(row)
        parts.setdefault("unknown" if name is None else str(name), []).append(row)
    return {name: measured(parts[name]) for name in sorted(parts, key=_natural)}


def by_tag(
    rows: Sequence[Asked], tag: str, measured: Callable[[list[Asked]], Measure] = accuracy
) -> dict[str, Measure]:
    """By aspect, task, domain, ...: whatever the questions are tagged with."""
    return divided(rows, lambda row: row.question.tags.get(tag), measured)


def by_length(
    rows: Sequence[Asked],
    bands: Sequence[float] = BANDS,
    measured: Callable[[list[Asked]], Measure] = accuracy,
) -> dict[str, Measure]:
    """By length of the clip in bands of seconds: ``under 10 s``, ``10 to 60 s``, ...; ``unknown`` if nobody said."""
    return divided(rows, lambda row: band(row.question.seconds, bands), measured)


def by_frames(rows: Sequence[Asked], measured: Callable[[list[Asked]], Measure] = accuracy) -> dict[str, Measure]:
    """By the number of frames the model was shown: rows of several runs together."""
    return divided(rows, lambda row: row.frames, measured)


def band(seconds: float | None, bands: Sequence[float] = BANDS) -> str | None:
    """The name of the band a length falls in, its lower end included; None for None."""
    if seconds is None:
        return None
    below = [edge for edge in sorted(bands) if edge <= seconds]
    above = [edge for edge in sorted(bands) if edge > seconds]
    if not below:
        return f"under {above[0]:g} s" if above else "any"
    return f"{below[-1]:g} to {above[0]:g} s" if above else f"{below[-1]:g} s and more"


def question_measures(rows: Sequence[Asked]) -> dict[str, Measure]:
    """All metrics by name; those of pairs, of yes and no and of clips played backwards where there are any."""
    measures = [accuracy(rows), unparsed(rows)]
    if pairs(rows):
        measures += [both_right(rows), mean_of_sets(rows, only=SETS), hallucinated(rows), reversal_consistency(rows)]
    found = {measure.name: measure for measure in measures} | yes_bias(rows)
    return {name: measure for name, measure in found.items() if measure.items}


@metric
def closed_questions(
    protocol: Protocol = "strict",
    by: Literal["tags", "length", "none"] = "none",
) -> Callable[[Iterable[tuple[str, Any]]], Mapping[str, Measure]]:
    """All metrics of closed questions, from (answer, truth) pairs; ``by`` adds accuracies by tag or clip length."""

    def run(answers: Iterable[tuple[str, Any]]) -> dict[str, Measure]:
        rows = asked(answers, protocol)
        found = question_measures(rows)
        for tag in sorted({tag for row in rows for tag in row.question.tags}) if by == "tags" else ():
            found |= {f"accuracy/{tag}/{name}": one for name, one in by_tag(rows, tag).items()}
        if by == "length":
            found |= {f"accuracy/{name}": one for name, one in by_length(rows).items()}
        return found

    return run


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers by size, then names; what is unknown last."""
    number = next((float(word) for word in name.split() if word.replace(".", "", 1).isdigit()), float("inf"))
    return name == "unknown", number - 0.5 if name.startswith("under") else number, name
