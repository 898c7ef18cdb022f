"""Questions a model asks itself about a picture or clip, one kind at a time (VideoSAVi, Kulkarni and Fazli 2025).

::

    questions:  {method: ask_questions, spatial: 2, temporal: 2}
    candidates: {method: videosavi}                 # reads the stage called questions

A method that makes candidates of them says how one question becomes a pair; ``each_question`` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Sampling, Text
from vlm_selfalign.core.rows import Demo, Labelled, Pair
from vlm_selfalign.core.steps import Steps, together
from vlm_selfalign.methods.accepted import refused
from vlm_selfalign.scoring.consensus import plain
from vlm_selfalign.scoring.self_asked import ask_wanted, questions_in, wanted

Count = Annotated[int, Field(ge=0)]


@method
def ask_questions(
    spatial: Count = 3,
    temporal: Count = 3,
    given: tuple[str, ...] = (),
    free: str = "",
    times: Count = 4,
    temperature: float = 1.0,
    max_tokens: int = 128,
) -> Callable[[Sample], Steps[list[Demo | Labelled]]]:
    """One ``Demo`` per question (``notes.asks``: spatial, temporal, free or given), each question once.

    ``given`` are questions asked of every clip besides. ``free`` is for models that write one question at a time: a
    prompt of one's own, drawn ``times`` times. A reply without any question is refused with its reason; the
    media stand in the prompt wherever the sample's own question shows them.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Demo | Labelled]]:
        if not sample.prompt.media:
            raise Drop("nothing to ask about: the prompt shows no picture or clip")
        replies = yield from ask_wanted(sample.prompt, wanted(spatial, temporal, free, times), sampling)
        rows: list[Demo | Labelled] = []
        for one, prompt, reply in replies:
            rows += _rows(prompt, reply, one.about, one.count)
        rows += [Demo(prompt=sample.prompt, answer=question, notes={"asks": "given"}) for question in given]
        return list({plain(row.answer) or row.id: row for row in reversed(rows)}.values())[::-1]

    return run


def _rows(prompt: Prompt, reply: Text, asks: str, count: int) -> list[Demo | Labelled]:
    try:
        return [Demo(prompt=prompt, answer=q, notes={"asks": asks}) for q in questions_in(reply.text, count)]
    except Drop as reason:
        return [refused(prompt, reply.text, f"{asks} question: {reason.reason}", asks=asks)]


def each_question(
    sample: Sample, questions: Sequence[Demo | Labelled], candidate: Callable[[Prompt], Steps[Pair]]
) -> Steps[list[Pair | Labelled]]:
    """One candidate per question: the pair, with the question's notes besides its own, or the reason against it.

    Replies without a question go along, to be counted with the refused. ``candidate`` is given the sample's prompt
    asking the question, and raises ``Drop`` to refuse. Raises ``Drop`` when nothing was asked at all.
    """
    unread: list[Pair | Labelled] = [row for row in questions if isinstance(row, Labelled)]
    asked = [row for row in questions if isinstance(row, Demo)]
    if not unread and not asked:
        raise Drop("no question")
    made = yield from together(*(_or_refused(sample.prompt.asking(row.answer), row, candidate) for row in asked))
    return [*unread, *made]


def _or_refused(prompt: Prompt, question: Demo, candidate: Callable[[Prompt], Steps[Pair]]) -> Steps[Pair | Labelled]:
    try:
        pair = yield from candidate(prompt)
    except Drop as dropped:
        return refused(prompt, question.answer, dropped.reason, **question.notes)
    return pair.model_copy(update={"notes": {**question.notes, **pair.notes}})
