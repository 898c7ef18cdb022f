"""RRPO: own answers to a damaged clip, corrected or minimally re-told, against the right one (Sarkar et al. 2025).

A part of the clip is covered and its frames change places; what the model then answers wrongly is what it says without
looking. The right answer is rejected in a version that says those wrong things and nothing else differently, so that
both sides differ in key phrases only. ::

    candidates: {method: rrpo, answers: own}
    pairs:      {fold: key_phrases, rows: candidates}
    policy:     {fit: rrpo, rows: pairs, beta: 0.1, alpha: 0.01}

``answers: given`` takes the right answer from the sample's truth, as in the paper; ``own`` takes what several own
answers to the clip agree on, and reads no truth.

The paper lets GPT-4o-mini list the wrong things and re-tell the right answer with them; ``rewrite: model`` asks the
model itself the same (or ``judge``). ``rewrite: claims`` needs no such skill: each claim of the wrong answer that the
model denies when it is asked back takes its sentence along, to where the right answer says something alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.parse import parse_list
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Generate, Sampling, Text
from vlm_selfalign.core.rows import Labelled, Pair
from vlm_selfalign.core.steps import Steps, ask, ask_all, together
from vlm_selfalign.methods.accepted import refused
from vlm_selfalign.scoring.choices import read_yes_no
from vlm_selfalign.scoring.closed_questions import ClosedQuestion, question_of
from vlm_selfalign.scoring.consensus import consensus, plain
from vlm_selfalign.scoring.given import given_answer
from vlm_selfalign.scoring.judging import says_right
from vlm_selfalign.scoring.rewrites import transplanted
from vlm_selfalign.scoring.self_check import check_kinds, examine, named_kinds
from vlm_selfalign.scoring.vocabulary import Vocabulary

LIST = (
    "Question: {question}\nRight answer: {right}\nWrong answer: {wrong}\n"
    "List what the wrong answer says otherwise: objects, actions, attributes, order. One on each line. "
    "If nothing, write: none."
)
RETELL = "Rewrite the right answer so that it says these wrong things. Change nothing else. Write the answer alone."

PERTURBED = {"mask": 0.3, "shuffle_nearby": 1.0}
"""What the paper found best: about a third covered, frames shuffled within short windows."""

IS_RIGHT = "answer to the perturbed clip is right"

Row = Pair | Labelled


@dataclass(frozen=True)
class _Right:
    """The right answer; ``ends``: is its end known too; ``agreed``: how far own answers agree on it; ``closed``: the
    question with its options, where it was given.
    """

    text: str
    ends: bool = True
    agreed: float | None = None
    closed: ClosedQuestion | None = None


@dataclass(frozen=True)
class _Settings:
    words: Vocabulary
    rewrite: str
    threshold: float
    alike: float
    judge: str
    sampling: Sampling


@method
def rrpo(
    answers: Literal["own", "given"] = "own",
    samples: Annotated[int, Field(ge=2)] = 4,
    agreed: float = 0.5,
    perturbed: dict[str, float] = PERTURBED,
    wrong: Annotated[int, Field(ge=1)] = 4,
    rewrite: Literal["claims", "model"] = "claims",
    alike: float = 0.3,
    threshold: float = 0.5,
    temperature: float = 1.0,
    max_tokens: int = 128,
    vocabulary: str = "world_clips",
    judge: str = "policy",
) -> Callable[[Sample], Steps[list[Row]]]:
    """One candidate for each distinct answer to the perturbed clip: a pair without spans, or the reason against it.

    Args:
        answers: Whose answer is right: what ``own`` draws agree on, or the one ``given`` with the sample.
        samples: Own draws that must agree.
        agreed: With less agreement (0 to 1) than this there is no own right answer.
        perturbed: Views of the clip and their amounts, one after the other; views in time are for clips only.
        wrong: Answers to the perturbed clip, each to another perturbation.
        rewrite: How the right answer is told wrongly.
        alike: Share of words that a sentence must have in common with the one it replaces (``claims``).
        threshold: A claim, or an answer, is wrong when the model's own P(yes) on the clip as it is is at most this.
        temperature: Of all draws.
        max_tokens: Of all answers.
        vocabulary: Words that claims are read with.
        judge: Who is asked about answers.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    settings = _Settings(Vocabulary.load(vocabulary), rewrite, threshold, alike, judge, sampling)

    def run(sample: Sample) -> Steps[list[Row]]:
        if not sample.prompt.media:
            raise Drop("no clip to perturb")
        right = _given(sample) if answers == "given" else (yield from _own(sample.prompt, samples, agreed, settings))
        drawn = yield from ask_all(
            Generate(prompt=_perturbed(sample, perturbed, draw), draw=draw, sampling=sampling) for draw in range(wrong)
        )
        distinct = {plain(reply.text): reply for reply in reversed(drawn)}
        found = [_candidate(sample, right, reply, settings) for reply in reversed(distinct.values())]
        made = yield from together(*found)
        # Wrong answers that end in the same words would teach the same thing many times over.
        return list({_content(row): row for row in reversed(made)}.values())[::-1]

    return run


def _content(row: Row) -> tuple[str | None, ...]:
    return (row.rejected,) if isinstance(row, Pair) else (row.answer, row.judgment)


def _perturbed(sample: Sample, views: dict[str, float], draw: int) -> Prompt:
    prompt, chance = sample.prompt, sample.rng(f"perturbed {draw}")
    for name, amount in views.items():
        prompt = prompt.viewed(name, amount, seed=chance.getrandbits(31))
    return prompt


def _given(sample: Sample) -> _Right:
    text = given_answer(sample.truth)
    if text is None:
        raise Drop("no answer is given with the sample")
    return _Right(text, closed=question_of(sample.truth))


def _own(prompt: Prompt, samples: int, agreed: float, settings: _Settings) -> Steps[_Right]:
    """What own answers to the clip as it is agree on."""
    drawn = yield from ask_all(
        Generate(prompt=prompt, draw=draw, sampling=settings.sampling) for draw in range(samples)
    )
    said = [reply for reply in drawn if reply.text.strip()]
    if len(said) < 2:
        raise Drop("fewer than two own answers")
    best, share = consensus([reply.text for reply in said], settings.words)
    if share < agreed:
        raise Drop("own answers do not agree")
    return _Right(said[best].text.strip(), said[best].finish == "end", share)


def _candidate(sample: Sample, right: _Right, reply: Text, settings: _Settings) -> Steps[Row]:
    """A pair, or why the answer to the perturbed clip makes none."""
    try:
        chosen, rejected = yield from _told_wrongly(sample.prompt, right, reply.text.strip(), settings)
    except Drop as reason:
        return refused(sample.prompt, reply.text, reason.reason)
    notes = {"wrong": reply.text} | ({} if right.agreed is None else {"agreed": round(right.agreed, 3)})
    # A re-told answer ends where the right one does; one that stands for itself must have ended.
    ended = right.ends and (reply.finish == "end" or rejected != reply.text.strip())
    return Pair(
        prompt=sample.prompt,
        chosen=chosen,
        rejected=rejected,
        chosen_ends=right.ends,
        rejected_ends=ended,
        notes=notes,
    )


def _told_wrongly(prompt: Prompt, answer: _Right, wrong: str, settings: _Settings) -> Steps[tuple[str, str]]:
    """Chosen and rejected. Raises ``Drop`` when the answer is not wrong, or cannot be told in the right one's words."""
    right = answer.text
    if not wrong:
        raise Drop("empty answer to the perturbed clip")
    if plain(right) == plain(wrong):
        raise Drop(IS_RIGHT)
    if answer.closed is not None and answer.closed.options:
        return right, _label(answer.closed.read(wrong), answer.closed.answer, "no option")
    if plain(right) in {"yes", "no"}:
        return right, _label(read_yes_no(wrong), plain(right), "neither yes nor no").capitalize()
    if settings.rewrite == "claims" and named_kinds([right], settings.words):
        return right, (yield from _with_denied(prompt, right, wrong, settings))
    if (yield from says_right(prompt, wrong, settings.judge)) > settings.threshold:
        raise Drop(IS_RIGHT)
    if settings.rewrite == "model":
        return right, (yield from _retold(prompt, right, wrong, settings))
    return right, wrong


def _label(said: str | None, right: str, what: str) -> str:
    """The wrong label an answer names."""
    if said is None:
        raise Drop(f"answer to the perturbed clip names {what}")
    if said == right:
        raise Drop(IS_RIGHT)
    return said


def _with_denied(prompt: Prompt, right: str, wrong: str, settings: _Settings) -> Steps[str]:
    """The right answer with those sentences of the wrong one that the model denies on the clip as it is."""
    words = settings.words
    others = named_kinds([wrong], words) - named_kinds([right], words)
    if not others:
        raise Drop(IS_RIGHT)
    verdict = yield from check_kinds(prompt, others, words, to=settings.judge)
    denied = [found.text for found in examine(wrong, verdict, words, settings.threshold) if found.denied]
    if not denied:
        raise Drop("answer to the perturbed clip is not denied")
    told = transplanted(right, denied, settings.alike)
    if told is None:
        raise Drop("no sentence of the right answer is like a wrong one")
    return told


def _retold(prompt: Prompt, right: str, wrong: str, settings: _Settings) -> Steps[str]:
    """The right answer, re-told by the judge so that it says what the wrong one says otherwise."""
    asked = Prompt.user(LIST.format(question=prompt.question, right=right, wrong=wrong))
    greedy = settings.sampling.model_copy(update={"temperature": 0.0})
    listed = yield from ask(Generate(prompt=asked, sampling=greedy, to=settings.judge))
    if _says_none(parse_list(listed.text)):
        raise Drop(IS_RIGHT)
    asked = asked.answered(listed.text).then(RETELL)
    told = yield from ask(Generate(prompt=asked, sampling=greedy, to=settings.judge))
    if not told.text.strip():
        raise Drop("empty rewrite")
    return told.text.strip()


def _says_none(items: Sequence[str]) -> bool:
    return len(items) == 1 and plain(items[0]) in {"none", "nothing", "no differences", "no difference"}
