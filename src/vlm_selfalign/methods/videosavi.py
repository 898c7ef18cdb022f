"""VideoSAVi: the model asks itself about a clip, answers, criticises the answer and revises it; the revision is chosen.

Kulkarni and Fazli 2025 (COLM), without their code, of which only inference is public. Rounds of DPO, each from the
model of the round before, which also answers in it::

    questions:  {method: ask_questions}
    candidates: {method: videosavi}
    pairs:      {fold: accepted, rows: candidates}
    policy:     {fit: dpo, rows: pairs}

A pair's direction is only as good as the critic, so what the paper leaves open is guarded: the critique must find
something, the revision must differ, must not speak of the critique, must be about as long as the answer, and the model
must prefer it whichever of the two it is shown first. The critique is never part of what is learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Generate, Sampling, Text
from vlm_selfalign.core.rows import Demo, Labelled, Pair
from vlm_selfalign.core.steps import Steps, ask
from vlm_selfalign.methods.questions import each_question
from vlm_selfalign.scoring.consensus import plain
from vlm_selfalign.scoring.judging import against, prefers
from vlm_selfalign.scoring.revisions import CRITICISE, REVISE, only_praises, times_as_long, without_leakage

Row = Pair | Labelled


@dataclass(frozen=True)
class _Settings:
    sampling: Sampling
    longer: float
    judge: bool
    threshold: float
    critic: str


@method
def videosavi(
    temperature: float = 0.7,
    max_tokens: int = 128,
    longer: float = 2.0,
    judge: bool = True,
    threshold: float = 0.5,
    critic: str = "policy",
) -> Callable[[Sample, list[Demo | Labelled]], Steps[list[Row]]]:
    """One candidate per question of the stage ``questions``: a pair (revision over answer), or the reason against it.

    Args:
        temperature: Of answers; critique and revision are greedy.
        max_tokens: Of each of the three.
        longer: At most so many times as many words may one side have.
        judge: Ask which of the two is right, both ways round.
        threshold: The revision is preferred when its probability is above this in both orders.
        critic: Who criticises and judges.
    """
    settings = _Settings(Sampling(temperature=temperature, max_tokens=max_tokens), longer, judge, threshold, critic)

    def run(sample: Sample, questions: list[Demo | Labelled]) -> Steps[list[Row]]:
        return (yield from each_question(sample, questions, partial(_pair, settings=settings)))

    return run


def _pair(prompt: Prompt, settings: _Settings) -> Steps[Pair]:
    answer = yield from _said(prompt, settings.sampling, "policy", "answer")
    critique, revision = yield from _revised(prompt, answer.text, settings)
    text = _guarded(answer.text, revision.text, settings.longer)
    notes: dict[str, Any] = {"critique": critique, "leaked": text != revision.text.strip()}
    if settings.judge:
        first, second = yield from prefers(prompt, text, answer.text, settings.critic)
        if reason := against(first, second, settings.threshold):
            raise Drop(reason)
        notes["preferred"] = [round(first, 3), round(second, 3)]
    return Pair(
        prompt=prompt,
        chosen=text,
        rejected=answer.text.strip(),
        # What followed a sentence that was cut out is no end that the model wrote.
        chosen_ends=revision.finish == "end" and not notes["leaked"],
        rejected_ends=answer.finish == "end" and not notes["leaked"],
        notes=notes,
    )


def _revised(prompt: Prompt, answer: str, settings: _Settings) -> Steps[tuple[str, Text]]:
    """Critique and revision; the clip is shown to both."""
    greedy = settings.sampling.model_copy(update={"temperature": 0.0})
    checked = prompt.answered(answer.strip()).then(CRITICISE)
    critique = yield from _said(checked, greedy, settings.critic, "critique")
    if only_praises(critique.text):
        raise Drop("critique only praises")
    again = checked.answered(critique.text.strip()).then(REVISE)
    revision = yield from _said(again, greedy, "policy", "revision")
    return critique.text.strip(), revision


def _guarded(answer: str, revision: str, longer: float) -> str:
    """The revision, cleaned; raises ``Drop`` when it cannot be learnt from."""
    text = without_leakage(revision)
    if not text:
        raise Drop("revision speaks of the critique only")
    if plain(text) == plain(answer):
        raise Drop("revision is the answer")
    if times_as_long(text, answer) > longer:
        raise Drop(f"one side more than {longer:g} times as long as the other")
    return text


def _said(prompt: Prompt, sampling: Sampling, to: str, what: str) -> Steps[Text]:
    reply = yield from ask(Generate(prompt=prompt, sampling=sampling, to=to))
    if not reply.text.strip():
        raise Drop(f"empty {what}")
    return reply
