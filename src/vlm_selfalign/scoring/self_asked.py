"""Questions a model asks itself about a picture or clip: the prompts, their asking, and the questions in a reply.

::

    wanted(spatial=2, temporal=2)                                               # two replies, a list each
    wanted(0, 0, "Ask a question about the clip.", times=4)                     # four, of one question each
    questions_in("1. Where is the boat? 2. What colour is the cup?", at_most=1)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.parse import parse_list
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import Generate, Sampling, Text
from vlm_selfalign.core.steps import Steps, ask_all
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


class Wanted(NamedTuple):
    """One reply to ask for: what its questions are about, how many at most, the prompt's text, and which draw."""

    about: str
    count: int
    text: str
    draw: int = 0


def wanted(spatial: int, temporal: int, one_at_a_time: str = "", times: int = 0) -> list[Wanted]:
    """The replies to ask for: a list of each kind, and ``times`` draws of one question each for that prompt."""
    kinds = (("spatial", spatial, SPATIAL), ("temporal", temporal, TEMPORAL))
    lists = [Wanted(about, count, text.format(count=count)) for about, count, text in kinds if count]
    return [*lists, *(Wanted("free", 1, one_at_a_time, draw) for draw in range(times if one_at_a_time else 0))]


def ask_wanted(prompt: Prompt, asked: Sequence[Wanted], sampling: Sampling) -> Steps[list[tuple[Wanted, Prompt, Text]]]:
    """Ask for them, with what ``prompt`` shows in view: each with the prompt it was asked with and its reply."""
    prompts = [prompt.asking(one.text) for one in asked]
    replies = yield from ask_all(
        Generate(prompt=shown, draw=one.draw, sampling=sampling) for one, shown in zip(asked, prompts, strict=True)
    )
    return list(zip(asked, prompts, replies, strict=True))


def questions_in(text: str, at_most: int | None = None) -> list[str]:
    """The questions of a list, as they stand in it; raises ``Drop`` when there is none."""
    items = (_QUESTION.search(_LABEL.sub("", item)) for item in parse_list(text))
    found = [match.group().strip() for match in items if match and len(plain(match.group()).split()) >= SHORTEST]
    if not found:
        raise Drop("unparsed: expected questions")
    return list({plain(question): question for question in reversed(found)}.values())[::-1][:at_most]
