"""Questions a model asks itself about a picture or clip, one kind at a time (VideoSAVi, Kulkarni and Fazli 2025).

::

    questions:  {method: ask_questions, spatial: 2, temporal: 2}
    candidates: {method: videosavi}                 # reads the stage called questions
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.parse import parse_list
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Generate, Sampling, Text
from vlm_selfalign.core.rows import Demo, Labelled
from vlm_selfalign.core.steps import Steps, ask_all
from vlm_selfalign.methods.accepted import refused
from vlm_selfalign.scoring.consensus import plain

SPATIAL = (
    "Ask {count} different questions about where things are in this video and what they look like. "
    "One question on each line, each with an answer that can be seen."
)
TEMPORAL = (
    "Ask {count} different questions about what happens in this video and in which order. "
    "One question on each line, each with an answer that can be seen."
)

_LABEL = re.compile(r"^\W*(?:q(?:uestion)?\s*\d*\s*[:.)]\W*)?", re.IGNORECASE)
_QUESTION = re.compile(r"[^?.!]*[^\W\d_][^?.!]*\?")
SHORTEST = 3
"""Words of a question: "Why?" asks nothing about a clip."""

Count = Annotated[int, Field(ge=0)]


@method
def ask_questions(
    spatial: Count = 3,
    temporal: Count = 3,
    given: tuple[str, ...] = (),
    temperature: float = 1.0,
    max_tokens: int = 128,
) -> Callable[[Sample], Steps[list[Demo | Labelled]]]:
    """One ``Demo`` per question (``notes.asks``: spatial, temporal or given), each question once.

    ``given`` are questions asked of every clip besides. A reply without any question is refused with its reason; the
    media stand in the prompt wherever the sample's own question shows them.
    """
    wanted = {"spatial": (SPATIAL, spatial), "temporal": (TEMPORAL, temporal)}
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Demo | Labelled]]:
        if not sample.prompt.media:
            raise Drop("nothing to ask about: the prompt shows no picture or clip")
        asked = [(asks, count, text.format(count=count)) for asks, (text, count) in wanted.items() if count]
        prompts = [sample.prompt.asking(text) for _, _, text in asked]
        replies = yield from ask_all(Generate(prompt=prompt, sampling=sampling) for prompt in prompts)
        rows: list[Demo | Labelled] = []
        for (asks, count, _), prompt, reply in zip(asked, prompts, replies, strict=True):
            rows += _rows(prompt, reply, asks, count)
        rows += [Demo(prompt=sample.prompt, answer=question, notes={"asks": "given"}) for question in given]
        return list({plain(row.answer) or row.id: row for row in reversed(rows)}.values())[::-1]

    return run


def questions_in(text: str, at_most: int | None = None) -> list[str]:
    """The questions of a list, as they stand in it; raises ``Drop`` when there is none."""
    items = (_QUESTION.search(_LABEL.sub("", item)) for item in parse_list(text))
    found = [match.group().strip() for match in items if match and len(plain(match.group()).split()) >= SHORTEST]
    if not found:
        raise Drop("unparsed: expected questions")
    return list({plain(question): question for question in reversed(found)}.values())[::-1][:at_most]


def _rows(prompt: Prompt, reply: Text, asks: str, count: int) -> list[Demo | Labelled]:
    try:
        return [Demo(prompt=prompt, answer=q, notes={"asks": asks}) for q in questions_in(reply.text, count)]
    except Drop as reason:
        return [refused(prompt, reply.text, f"{asks} question: {reason.reason}", asks=asks)]
