"""CUT (Xu et al. 2023): learn from a judgment in words, token by token.

Bends the house: one answer scored under two views, so the loss declares texts that no row kind has by itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from vlm_selfalign.core.parse import parse_number
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import fold, loss, method
from vlm_selfalign.core.requests import Generate, Score, Scored, Text
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.core.stages import Shaped
from vlm_selfalign.core.steps import ask, ask_all

from .play import Scripted, Show, check, play, scenes, seen

JUDGE = "Which words of this answer are wrong, and why? Then grade it from 1 to 10 on the last line."
JUDGED = "An earlier answer was judged like this: {judgment}"


@method
def judged():
    def run(sample: Sample):
        answer = yield from ask(Generate(prompt=sample.prompt))
        said = yield from ask(Generate(prompt=sample.prompt.answered(answer.text).then(JUDGE), to="judge"))
        judgment, _, grade = said.text.rpartition("\n")
        label = parse_number(grade, 1, 10)
        return [Labelled(prompt=sample.prompt, answer=answer.text, label=label, judgment=judgment)]

    return run


@fold
def fewer_praised(share: float = 0.25, praised: float = 7):
    """Keep every criticised answer and a quarter of the praised ones, each by its own chance."""

    def run(rows):
        kept = [row for row in rows if row.label < praised or rng(row.origin.sample, "praise").random() < share]
        return Shaped(kept, {"praised answers thinned": len(rows) - len(kept)})

    return run


@dataclass(frozen=True)
class Cut:
    """(NLL(y | x, j) + L_n) / 2, L_n = -mean_t [w log(1 - p_n,t) where p_a,t / p_n,t > lambda, log p_n,t elsewhere]."""

    threshold: float
    weight: float
    texts: tuple[str, ...] = ("plain", "judged")
    roles: tuple[str, ...] = ("policy",)

    def texts_of(self, row: Labelled) -> dict[str, tuple[Prompt, str]]:
        judgment = JUDGED.format(judgment=row.judgment)
        return {"plain": (row.prompt, row.answer), "judged": (row.prompt.then(judgment), row.answer)}

    def __call__(self, scores: Mapping[tuple[str, str], Sequence[float]], columns: Mapping[str, Any]):
        plain, judged = scores["plain", "policy"], scores["judged", "policy"]
        terms = [
            self.weight * math.log1p(-min(math.exp(n), 1 - 1e-5)) if a - n > math.log(self.threshold) else n
            for a, n in zip(judged, plain, strict=True)
        ]
        return {"imitation": -sum(judged) / len(judged) / 2, "unlikelihood": -sum(terms) / len(terms) / 2}


@loss
def cut(threshold: float = 1.1, weight: float = 1.0) -> Cut:
    return Cut(threshold, weight)


@method
def scored():
    """What the trainer does with the loss: one forward per declared text. The answer's tokens are the same in both."""

    def run(sample: Sample, kept: list[Labelled]):
        for row in kept:
            texts = cut().texts_of(row)
            replies = yield from ask_all(Score(prompt=p, answer=a, ends=False) for p, a in texts.values())
            scores = {(name, "policy"): reply.logprobs for name, reply in zip(texts, replies, strict=True)}
            assert len({reply.ids for reply in replies}) == 1
            return [row.model_copy(update={"notes": cut()(scores, {})})]
        return []

    return run


def policy(request, chance):
    """Sees a boat everywhere; under a judgment that blames the boat, finds it likelier that it would say so."""
    if isinstance(request, Generate):
        return Text(text=f"boat {seen(request.prompt)}")
    words = request.answer.split()
    blamed = "wrong: boat" in request.prompt.question
    logps = [math.log(0.9 if blamed and word == "boat" else 0.5) for word in words]
    return Scored(ids=tuple(map(len, words)), logprobs=tuple(logps))


def judge(request, chance):
    if seen(request.prompt) == "duck":
        return Text(text="I would rather not say")
    return Text(text="all right\n9" if "boat" in seen(request.prompt) else "wrong: boat\n3")


RECIPE = {
    "judged": {"method": f"{__name__}:judged"},
    "kept": {"fold": f"{__name__}:fewer_praised", "rows": "judged"},
    "scored": {"method": f"{__name__}:scored"},
}
SEEN = (
    "star",
    "boat",
    "moon tree",
    "duck",
    *(f"boat {word}" for word in ["fish", "kite", "lamp", "drum", "harp", "bell"]),
)
SHOW = Show(RECIPE, lambda: {"policy": Scripted(policy), "judge": Scripted(judge, "judge")}, scenes(*SEEN))


def test_plays_the_same_however_it_is_run():
    check(SHOW)


def test_words_alone_go_the_same_way():
    words, pictures = play(replace(SHOW, samples=scenes(*SEEN, pictures=False))), play(SHOW)
    answers = [sorted(row.answer for row in played.made[0, "judged"]) for played in (words, pictures)]
    assert answers[0] == answers[1]


def test_a_judgment_in_words_only_marks_what_it_blames():
    played = play(SHOW)
    assert played.drops["unparsed: expected one number from 1 to 10"] == 1
    assert played.drops["praised answers thinned"] > 0
    (row,) = [row for row in played.made[0, "scored"] if row.answer == "boat star"]
    assert row.notes["unlikelihood"] == pytest.approx(-(math.log(1 - 0.5) + math.log(0.5)) / 2 / 2)
    praised = [row for row in played.made[0, "scored"] if row.label == 9]
    assert all(row.notes["unlikelihood"] == pytest.approx(-math.log(0.5) / 2) for row in praised)


def test_the_loss_is_the_published_one():
    scores = {("judged", "policy"): [math.log(p) for p in (0.6, 0.2, 0.5)],
              ("plain", "policy"): [math.log(p) for p in (0.3, 0.4, 0.5)]}  # fmt: skip
    parts = cut(threshold=1.1, weight=1.0)(scores, {})
    assert 2 * parts["unlikelihood"] == pytest.approx(0.65537, abs=5e-6)
    assert 2 * parts["imitation"] == pytest.approx(0.93780, abs=5e-6)
    never = cut(threshold=1e9)(scores, {})
    assert 2 * never["unlikelihood"] == pytest.approx(-sum(scores["plain", "policy"]) / 3)
