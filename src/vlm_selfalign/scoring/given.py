"""The right answer to a sample's question, where somebody gave it.

::

    given_answer("The boat sinks.")                                             # "The boat sinks."
    given_answer({"clip": "1.mp4", "answer": "B", "options": {"A": "run", "B": "dance"}})   # "B"
    given_answer({"events": [{"action": "appear", "kind": "star"}]})            # "A star appears."
"""

from __future__ import annotations

from typing import Any

from vlm_selfalign.scoring.closed_questions import question_of
from vlm_selfalign.scoring.events import event_said
from vlm_selfalign.scoring.happenings import events_of


def given_answer(truth: Any) -> str | None:
    """The answer a truth holds, None where it holds none.

    It is a text, the text or label under ``answer`` (yes and no with a capital), or else the events of a clip, told one
    after the other.
    """
    if isinstance(truth, str):
        return truth.strip() or None
    answer = truth.get("answer") if isinstance(truth, dict) else None
    if isinstance(answer, str) and answer.strip():
        closed = question_of(truth)
        return answer.capitalize() if closed and not closed.options else answer.strip()
    return told_plainly(truth)


def told_plainly(truth: Any) -> str | None:
    """``The boat moves to the left. Then a star appears.``; None where no events are known, or none happened."""
    told = [event_said(*event.said) for event in events_of(truth)]
    first = [f"{text[0].upper()}{text[1:]}." for text in told[:1]]
    return " ".join([*first, *(f"Then {text}." for text in told[1:])]) or None
