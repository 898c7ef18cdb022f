"""Closed questions about clips, read and counted: how many answers are right, how many cannot be read.

::

    rows = asked([("Yes.", truth), ("B", other)], "strict")
    accuracy(rows).value

Items belong to clips: an interval resamples clips, never questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.scoring.closed_questions import ClosedQuestion, question_of
from vlm_selfalign.scoring.published import Protocol, leaves, read_answer


@dataclass(frozen=True)
class Asked:
    """One question, the label that was read out of its answer, and how many frames the model was shown."""

    question: ClosedQuestion
    said: str | None
    protocol: Protocol = "strict"
    frames: int | None = None

    @property
    def right(self) -> bool:
        """Whether it is the right label."""
        return self.said == self.question.answer

    @property
    def counted(self) -> bool:
        """Whether it is in the denominator."""
        return not leaves(self.said, self.protocol)

    @property
    def meant(self) -> str | None:
        """What was said, in words."""
        return self.question.meant(self.said)


def asked(answers: Iterable[tuple[str, Any]], protocol: Protocol = "strict", frames: int | None = None) -> list[Asked]:
    """Read (answer, truth) pairs, once for all metrics. Raises ``UserError`` for a truth that holds no question."""
    rows = []
    for answer, truth in answers:
        question = question_of(truth)
        if question is None:
            raise UserError(f"truth {truth!r:.80} holds no closed question: it needs clip and answer")
        rows.append(Asked(question, read_answer(answer, question, protocol), protocol, frames))
    return rows


def accuracy(rows: Iterable[Asked], name: str = "accuracy") -> Measure:
    """Right answers over all answers; one that cannot be read is wrong (Video-MME's script leaves it out)."""
    rows = list(rows)
    items = [Item(row.question.clip, float(row.right), float(row.counted)) for row in rows]
    return Measure.of(name, items, protocol=protocol_of(rows))


def unparsed(rows: Iterable[Asked]) -> Measure:
    """Answers that could not be read over all answers."""
    return Measure.of("unparsed", [Item(row.question.clip, float(row.said is None), 1) for row in rows], True)


def protocol_of(rows: Sequence[Asked]) -> str:
    """The protocol that the answers were read by."""
    return rows[0].protocol if rows else ""
