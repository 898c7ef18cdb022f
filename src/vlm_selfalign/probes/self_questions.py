"""What the model asks itself about a clip it never saw in training: can the clip answer it, and would another one too?

A question that fits any clip teaches nothing about this one; one that no clip answers teaches to make things up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Sampling
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps
from vlm_selfalign.scoring.answerable import is_answerable, question_kind
from vlm_selfalign.scoring.self_asked import ask_wanted, questions_in, wanted
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
    ``scoring.answerable`` knows the truth; without a truth only kinds and unread replies are counted. Of a sample that
    is measured alone nothing is said about a wrong clip.
    """
    words, sampling = Vocabulary.load(vocabulary), Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample, survey: Neighbours) -> Steps[list[Labelled]]:
        if not sample.prompt.media:
            raise Drop("nothing to ask about: the prompt shows no picture or clip")
        clips = {"questions_answerable": sample, "questions_fit_wrong_clip": survey.other(sample)}
        truths = {measure: clip.truth for measure, clip in clips.items() if clip is not None}
        replies = yield from ask_wanted(sample.prompt, wanted(spatial, temporal, free, times), sampling)
        rows = []
        for one, prompt, reply in replies:
            try:
                found = questions_in(reply.text, one.count)
            except Drop:
                found = []
            notes = {"measure": "questions_unread"}
            rows.append(Labelled(prompt=prompt, answer=reply.text, label=float(not found), notes=notes))
            for text in found:
                rows += [_fits(prompt, text, measure, truth, words) for measure, truth in truths.items()]
        return rows

    run.survey = Neighbours  # type: ignore[attr-defined]
    return run


def _fits(prompt: Prompt, text: str, measure: str, truth: Any, words: Vocabulary) -> Labelled:
    fits = is_answerable(text, truth, words)
    notes = {"measure": measure, "kind": question_kind(text), "den": int(fits is not None)}
    return Labelled(prompt=prompt, answer=text, label=float(fits or 0), notes=notes)


class Neighbours:
    """The next sample of each: one that has nothing to do with it."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._next = {a.id: b for a, b in zip(samples, [*samples[1:], *samples[:1]], strict=True)}

    def other(self, sample: Sample) -> Sample | None:
        """The first sample for the last one; None where it is alone."""
        other = self._next[sample.id]
        return None if other.id == sample.id else other
