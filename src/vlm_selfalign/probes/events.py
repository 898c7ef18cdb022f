"""What happened in a clip, asked in pairs: an event that did and one like it that did not, an order and its reverse.

As in VideoHallucer (Wang et al. 2024) only who answers both rightly has seen it: a model that always says yes, or tells
what goes together, gets one of the two.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Choose, Chosen
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask_all
from vlm_selfalign.scoring.closed_questions import ClosedQuestion
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import ORDER, event_question, event_said
from vlm_selfalign.scoring.happenings import Happening, came_first, events_of, happened, is_part
from vlm_selfalign.scoring.truth import kinds_of

Frames = Annotated[int, Field(ge=1)]

Pair = tuple[str, str, str]
"""What is asked about, the question answered yes, the one answered no."""


@probe
def events(
    at_most: int = 2, orders: int = 1, words: str = "world", frames: tuple[Frames, ...] = (), shown: Frames = 16
) -> Callable[[Sample], Steps[list[Labelled]]]:
    """Per sample up to ``at_most`` pairs about events and ``orders`` pairs about the order of two.

    Args:
        at_most: Pairs about events.
        orders: Pairs about the order of two events.
        words: What can happen.
        frames: Asked again with only so many of the frames, the others left out at random (the view ``drop``).
        shown: Frames that a clip is shown with; a measurement knows it from the model's settings.

    ``notes``: measure (event_questions, order_questions), cluster, gold, said, p_yes, truth (the pair and side), and
    frames where some were left out.
    """
    known = EventWords.load(words)

    def run(sample: Sample) -> Steps[list[Labelled]]:
        found = events_of(sample.truth)
        if not found:
            raise Drop("no events in the truth")
        chance = sample.rng("events")
        pairs = [("event_questions", *pair) for pair in _some(_events(found, sample, known, chance), at_most, chance)]
        pairs += [("order_questions", *pair) for pair in _some(_orders(found, known), orders, chance)]
        if not pairs:
            raise Drop("no event has a twin that did not happen")
        asked = [_asked(sample, *pair, side) for pair in pairs for side in ("basic", "hallucination")]
        seen = [(None, sample.prompt), *((n, _thinned(sample, n, shown)) for n in frames if n < shown)]
        whole = [(n, prompt.asking(text), measure, question) for n, prompt in seen for measure, text, question in asked]
        replies = yield from ask_all(Choose(prompt=prompt) for _, prompt, _, _ in whole)
        return [_row(sample, *one, reply) for one, reply in zip(whole, replies, strict=True)]

    return run


def _thinned(sample: Sample, frames: int, shown: int) -> Prompt:
    return sample.prompt.viewed("drop", (shown - frames) / shown, seed=sample.rng(f"{frames} frames").getrandbits(31))


def _row(
    sample: Sample, frames: int | None, prompt: Prompt, measure: str, question: ClosedQuestion, reply: Chosen
) -> Labelled:
    notes = {
        "measure": measure,
        "cluster": sample.id,
        "gold": question.answer,
        "said": reply.best.lower(),
        "p_yes": reply.prob("Yes"),
        "truth": question.truth(),
    }
    notes |= {"frames": frames} if frames else {}
    right = float(reply.best.lower() == question.answer)
    return Labelled(prompt=prompt, answer=reply.best, label=right, notes=notes)


def _asked(sample: Sample, measure: str, about: str, yes: str, no: str, side: str) -> tuple[str, str, ClosedQuestion]:
    answer = "yes" if side == "basic" else "no"
    pair = f"{sample.id}: {yes} {no}"
    seconds = sample.truth.get("duration")
    question = ClosedQuestion(
        clip=sample.id, answer=answer, pair=pair, side=side, tags={"about": about}, seconds=seconds
    )
    return measure, yes if side == "basic" else no, question


def _some(pairs: Sequence[Pair], at_most: int, chance: random.Random) -> list[Pair]:
    return chance.sample(pairs, min(at_most, len(pairs)))


def _events(found: Sequence[Happening], sample: Sample, words: EventWords, chance: random.Random) -> list[Pair]:
    kinds = kinds_of(sample.truth)
    pairs = []
    for event in dict.fromkeys(replace(event, start=None, end=None) for event in found):
        twins = [twin for twin in _twins(event, kinds, words) if not happened(twin, found, words)]
        if twins:
            pairs.append((event.action, event_question(*event.said), event_question(*chance.choice(twins).said)))
    return pairs


def _twins(event: Happening, kinds: Sequence[str], words: EventWords) -> Iterator[Happening]:
    """The same done by somebody else, the other way, or with another one."""
    others = [kind for kind in kinds if kind not in (event.subject, event.other)]
    yield from (replace(event, subject=kind) for kind in others)
    if event.other:
        yield from (replace(event, other=kind) for kind in others)
    elif event.direction:
        yield from (replace(event, direction=way) for way in words.directions if way != event.direction)


def _orders(found: Sequence[Happening], words: EventWords) -> list[Pair]:
    """Two events that each happened once, however they are put: only of those the order is clear."""
    clear = [i for i, event in enumerate(found) if sum(is_part(event, whole, words) for whole in found) == 1]
    pairs = []
    for place, one in enumerate(clear):
        for two in clear[place + 1 :]:
            first = came_first(one, two, found)
            if first is not None:
                said = [event_said(*found[i].said) for i in ((one, two) if first else (two, one))]
                pairs.append(("order", ORDER.format(*said), ORDER.format(*said[::-1])))
    return pairs
