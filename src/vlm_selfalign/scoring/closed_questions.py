"""A question about a clip that has one right answer, as a sample's truth holds it.

::

    {"clip": "temporal/7.mp4", "answer": "yes", "pair": "temporal-3", "side": "basic", "tags": {"set": "temporal"}}
    {"clip": "12.mp4", "answer": "B", "options": {"A": "running", "B": "dancing"}, "seconds": 7.5}

Readers of benchmarks write it, probes and metrics read it; the wording of the question is the sample's prompt.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from vlm_selfalign.core.records import Record
from vlm_selfalign.scoring.choices import read_choice, read_yes_no


class ClosedQuestion(Record):
    """Which clip it is about, the right label, and what its options are: yes and no where there are none.

    Questions of one ``pair`` belong together, each its ``side``: basic and hallucination, or forwards and backwards.
    ``tags`` are what results are broken down by; ``seconds`` is how long the clip, or the part asked about, is.
    """

    clip: str
    answer: str
    options: dict[str, str] = Field(default_factory=dict)
    pair: str = ""
    side: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    seconds: float | None = None

    def truth(self) -> dict[str, Any]:
        """As JSON, without what is not said."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def read(self, answer: str) -> str | None:
        """The label that an answer names by the strict rules of ``choices``, or None."""
        return read_choice(answer, self.options) if self.options else read_yes_no(answer)

    def meant(self, label: str | None) -> str | None:
        """What a label stands for, in words: two questions may list the same options in another order."""
        return self.options.get(label, label) if label else None


def question_of(truth: Any) -> ClosedQuestion | None:
    """The question of a truth; None where it holds none."""
    if not isinstance(truth, dict) or not {"clip", "answer"} <= truth.keys():
        return None
    try:
        return ClosedQuestion.model_validate(truth)
    except ValidationError:
        return None
