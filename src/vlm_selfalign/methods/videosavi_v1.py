"""VideoSAVi as first published: several answers, judged by the model itself and by CLIP; the best against the worst.

Kulkarni and Fazli 2024 (first preprint); numbers and the exact adjustment are not public. Here an answer's score is the
model's own P(right) plus ``clip_weight`` times the CLIP similarity of answer and frames, and what CLIP thinks of the
pair is an offset to its logit besides, -log sigmoid(beta u + gamma (s(chosen) - s(rejected))), read by ``soft_dpo``::

    questions:  {method: ask_questions}
    candidates: {method: videosavi_v1}
    pairs:      {fold: accepted, rows: candidates}
    policy:     {fit: soft_dpo, rows: pairs}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pydantic import Field

from vlm_selfalign.core.errors import Drop, RequestFailed
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Generate, Ground, Sampling, Text
from vlm_selfalign.core.rows import Demo, Labelled, Pair
from vlm_selfalign.core.steps import Steps, ask_all, together
from vlm_selfalign.methods.questions import each_question
from vlm_selfalign.scoring.consensus import plain
from vlm_selfalign.scoring.judging import against, prefers, says_right
from vlm_selfalign.scoring.revisions import times_as_long

Row = Pair | Labelled


@dataclass(frozen=True)
class _Settings:
    samples: int
    sampling: Sampling
    clip: str
    clip_weight: float
    gamma: float
    longer: float
    judge: bool


@method
def videosavi_v1(
    samples: Annotated[int, Field(ge=2)] = 4,
    temperature: float = 1.0,
    max_tokens: int = 128,
    clip: str = "clip",
    clip_weight: float = 5.0,
    gamma: float = 10.0,
    longer: float = 2.0,
    judge: bool = True,
) -> Callable[[Sample, list[Demo | Labelled]], Steps[list[Row]]]:
    """One candidate per question of the stage ``questions``: the best answer over the worst, or the reason against it.

    Args:
        samples: Answers to each question.
        temperature: Of answers.
        max_tokens: Of answers.
        clip: The role that knows similarities; empty for none, and then the model's own opinion decides alone.
        clip_weight: How much of it counts beside P(right). Similarities of answers to one clip differ by hundredths.
        gamma: The offset to the pair's logit, in nats per unit of similarity.
        longer: At most so many times as many words may one side have.
        judge: The model must also prefer the best answer to the worst whichever it is shown first.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    settings = _Settings(samples, sampling, clip, clip_weight, gamma, longer, judge)

    def run(sample: Sample, questions: list[Demo | Labelled]) -> Steps[list[Row]]:
        return (yield from each_question(sample, questions, partial(_pair, settings=settings)))

    return run


def _pair(prompt: Prompt, settings: _Settings) -> Steps[Pair]:
    drawn = yield from ask_all(
        Generate(prompt=prompt, draw=draw, sampling=settings.sampling) for draw in range(settings.samples)
    )
    answers = list({plain(r.text): r for r in reversed(drawn) if r.text.strip()}.values())[::-1]
    if len(answers) < 2:
        raise Drop("answers are all the same")
    own = yield from together(*(says_right(prompt, answer.text) for answer in answers))
    fits = yield from _similarities(prompt, answers, settings.clip)
    scores = [p + settings.clip_weight * s for p, s in zip(own, fits, strict=True)]
    best, worst = max(range(len(scores)), key=scores.__getitem__), min(range(len(scores)), key=scores.__getitem__)
    if scores[best] == scores[worst]:
        raise Drop("answers are all as good")
    yield from _check(prompt, answers[best].text, answers[worst].text, settings)
    return Pair(
        prompt=prompt,
        chosen=answers[best].text,
        rejected=answers[worst].text,
        chosen_ends=answers[best].finish == "end",
        rejected_ends=answers[worst].finish == "end",
        margin=-settings.gamma * (fits[best] - fits[worst]),
        notes={"own": [own[best], own[worst]], "clip": [fits[best], fits[worst]]},
    )


def _similarities(prompt: Prompt, answers: Sequence[Text], clip: str) -> Steps[list[float]]:
    """CLIP's similarity of each answer to the clip: the paper's check by another model; zeros without one."""
    if not clip:
        return [0.0] * len(answers)
    try:
        replies = yield from ask_all(
            Ground(text=answer.text.strip(), media=prompt.media[0], to=clip) for answer in answers
        )
    except RequestFailed as failed:
        raise Drop(f"no similarity: {failed.reason}") from None
    return [float(reply.value) for reply in replies]


def _check(prompt: Prompt, best: str, worst: str, settings: _Settings) -> Steps[None]:
    if times_as_long(best, worst) > settings.longer:
        raise Drop(f"one side more than {settings.longer:g} times as long as the other")
    if settings.judge:
        first, second = yield from prefers(prompt, best, worst)
        if reason := against(first, second):
            raise Drop(reason)
