"""What the model asks itself about a clip it never saw in training: can the clip answer it, and would another one too?

A question that fits any clip teaches nothing about this one; one that no clip answers teaches to make things up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask_all
from vlm_selfalign.scoring.answerable import is_answerable, question_kind
from vlm_selfalign.scoring.self_asked import questions_in, wanted
from vlm_selfalign.scoring.vocabulary import Vocabulary

Count = Annotated[int, Field(ge=0)]


@probe
def self_questions(
    spatial: Count = 3,
    temporal: Count = 3,
    free: str = "",
    times: Count = 4,
    temperature: float = 1.0,
    max_tokens: int = 128,
    vocabulary: str = "world_clips",
) -> Callable[..., Steps[list[Labelled]]]:
    """Asks as ``ask_questions`` does. Rows: is a reply unread, is a question answerable here, and by the next sample.

    ``notes``: measure (questions_unread, questions_answerable, questions_fit_wrong_clip), kind. Answerable as far as
    ``scoring.answerable`` knows the truth; without a truth only kinds and unread replies are counted.
    """
    words, sampling = Vocabulary.load(vocabulary), Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample, survey: Neighbours) -> Steps[list[Labelled]]:
        if not sample.prompt.media:
            raise Drop("nothing to ask about: the prompt shows no picture or clip")
        asked = wanted(spatial, temporal, free, times)
        prompts = [sample.prompt.asking(one.text) for one in asked]
        replies = yield from ask_all(
            Generate(prompt=prompt, draw=one.draw, sampling=sampling)
            for one, prompt in zip(asked, prompts, strict=True)
        )
        rows = []
        for one, prompt, reply in zip(asked, prompts, replies, strict=True):
            try:
                found = questions_in(reply.text, one.count)
            except Drop:
                found = []
            notes = {"measure": "questions_unread"}
            rows.append(Labelled(prompt=prompt, answer=reply.text, label=float(not found), notes=notes))
            for text in found:
                truths = {"questions_answerable": sample.truth, "questions_fit_wrong_clip": survey.other(sample)}
                for measure, truth in truths.items():
                    fits = is_answerable(text, truth, words)
                    notes = {"measure": measure, "kind": question_kind(text), "den": int(fits is not None)}
                    rows.append(Labelled(prompt=prompt, answer=text, label=float(fits or 0), notes=notes))
        return rows

    run.survey = Neighbours  # type: ignore[attr-defined]
    return run


class Neighbours:
    """The truth of the next sample: one that has nothing to do with this one."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._next = {a.id: b.truth for a, b in zip(samples, [*samples[1:], *samples[:1]], strict=True)}

    def other(self, sample: Sample) -> Any:
        """Of the first sample for the last one; the sample's own where it is alone."""
        return self._next[sample.id]
