"""A benchmark's own question, asked as it stands: the right answer is in the sample's truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Choose, Generate, Sampling
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask
from vlm_selfalign.scoring.closed_questions import question_of


@probe
def closed_questions(
    how: Literal["write", "choose"] = "write", max_tokens: int = 32
) -> Callable[[Sample], Steps[list[Labelled]]]:
    """One row per sample: the answer as written, and whether it is right by the strict rules.

    ``write`` lets the model answer in its own words, greedily; ``choose`` takes its likeliest label, so that every
    answer can be read. ``notes``: measure, cluster (the clip), gold, said (None: unread), truth.
    """
    sampling = Sampling(max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Labelled]]:
        question = question_of(sample.truth)
        if question is None:
            raise Drop("no closed question in the truth")
        if how == "choose":
            reply = yield from ask(Choose(prompt=sample.prompt, choices=tuple(question.options) or ("Yes", "No")))
            answer = reply.best
        else:
            reply = yield from ask(Generate(prompt=sample.prompt, sampling=sampling))
            answer = reply.text
        said = question.read(answer)
        notes = {"measure": "questions", "cluster": question.clip, "gold": question.answer, "said": said}
        right = float(said == question.answer)
        return [Labelled(prompt=sample.prompt, answer=answer, label=right, notes=notes | {"truth": question.truth()})]

    return run
