"""LiPO-lambda (Liu et al. 2024): K answers to a prompt at once, ranked, each pair weighed by what it does to the list.

Bends the house: rows of any number of answers with listwise labels.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pytest

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import loss, method
from vlm_selfalign.core.requests import Choose, Chosen, Generate, Sampling, Text
from vlm_selfalign.core.rows import Group, texts
from vlm_selfalign.core.steps import ask_all

from .play import Scripted, Show, check, play, scenes, seen

DUEL = "Which describes it better?\nA: {first}\nB: {second}"


@method
def ranked_list(samples: int = 8):
    """psi_i: the mean probability that answer i beats another, over both orders of showing them."""

    def run(sample: Sample):
        drawing = Sampling(temperature=0.7, top_k=40)
        drawn = yield from ask_all(Generate(prompt=sample.prompt, draw=i, sampling=drawing) for i in range(samples))
        answers = sorted({reply.text for reply in drawn})
        if len(answers) < 2:
            raise Drop("all answers are the same")
        duels = list(itertools.permutations(answers, 2))
        replies = yield from ask_all(
            Choose(prompt=sample.prompt.then(DUEL.format(first=first, second=second)), choices=("A", "B"), to="judge")
            for first, second in duels
        )
        first_wins = {duel: reply.prob("A") for duel, reply in zip(duels, replies, strict=True)}

        def beats(one: str, other: str) -> float:
            return (first_wins[one, other] + 1 - first_wins[other, one]) / 2

        scores = [fmean(beats(one, other) for other in answers if other != one) for one in answers]
        return [Group(prompt=sample.prompt, completions=tuple(answers), scores=tuple(scores))]

    return run


@dataclass(frozen=True)
class Lipo:
    """sum over psi_i > psi_j of |G_i - G_j| |1/D(tau_i) - 1/D(tau_j)| softplus(-(s_i - s_j)).

    s = beta log-ratio, G = 2^psi - 1, D = log(1 + tau), tau the rank by s (1 is highest; equals in order).
    """

    beta: float
    texts: tuple[str, ...] = ("completion_*",)
    roles: tuple[str, ...] = ("policy", "reference")
    columns: tuple[str, ...] = ("scores",)

    def __call__(self, scores: Mapping[tuple[str, str], Sequence[float]], columns: Mapping[str, Any]):
        labels = columns["scores"]
        names = [f"completion_{i}" for i in range(len(labels))]
        s = [self.beta * (sum(scores[name, "policy"]) - sum(scores[name, "reference"])) for name in names]
        order = sorted(range(len(s)), key=lambda i: -s[i])
        discount = {i: 1 / math.log(1 + rank) for rank, i in enumerate(order, start=1)}
        total = 0.0
        for i, j in itertools.permutations(range(len(s)), 2):
            if labels[i] > labels[j]:
                weight = abs(2 ** labels[i] - 2 ** labels[j]) * abs(discount[i] - discount[j])
                total += weight * math.log1p(math.exp(-(s[i] - s[j])))
        return {"preference": total}


@loss
def lipo(beta: float = 0.05) -> Lipo:
    return Lipo(beta)


def policy(request: Generate, chance):
    if seen(request.prompt) == "duck":
        return Text(text="duck")
    return Text(text=" ".join(chance.choices([*seen(request.prompt).split(), "ghost"], k=2)))


def judge(request: Choose, chance):
    """Counts ghosts against an answer; likes whatever is shown first a little."""
    first, second = (line[3:].split() for line in request.prompt.question.splitlines()[-2:])
    lead = second.count("ghost") - first.count("ghost") + 0.3
    return Chosen(choices=("A", "B"), logprobs=(-math.log1p(math.exp(-lead)), -math.log1p(math.exp(lead))))


RECIPE = {"lists": {"method": f"{__name__}:ranked_list", "samples": 5}}
SEEN = ("boat", "star moon", "tree fish kite", "duck")
SHOW = Show(RECIPE, lambda: {"policy": Scripted(policy), "judge": Scripted(judge, "judge")}, scenes(*SEEN))


def test_plays_the_same_however_it_is_run():
    check(SHOW)


def test_words_alone_go_the_same_way():
    words, pictures = play(replace(SHOW, samples=scenes(*SEEN, pictures=False))), play(SHOW)
    assert words.drops == pictures.drops == {"all answers are the same": 1}
    assert len(words.made[0, "lists"]) == len(pictures.made[0, "lists"]) == 3


def test_labels_average_to_half_and_fall_with_ghosts():
    for row in play(SHOW).made[0, "lists"]:
        assert fmean(row.scores) == pytest.approx(0.5)
        worst_first = sorted(zip(row.scores, row.completions, strict=True))
        ghosts = [text.count("ghost") for _, text in worst_first]
        assert ghosts == sorted(ghosts, reverse=True)
        assert list(texts(row)) == [f"completion_{i}" for i in range(len(row.completions))]


def scored(s: Sequence[float], beta: float):
    both = {(f"completion_{i}", "policy"): [value / beta] for i, value in enumerate(s)}
    return both | {(f"completion_{i}", "reference"): [0.0] for i in range(len(s))}


def test_the_loss_is_the_published_one():
    two = lipo(beta=1.0)(scored([0.1, 0.4], 1.0), {"scores": [0.8, 0.3]})["preference"]
    weight = (2**0.8 - 2**0.3) * (1 / math.log(2) - 1 / math.log(3))
    assert weight == pytest.approx(0.27153, abs=5e-6)
    assert two == pytest.approx(0.23198, abs=5e-6)
    assert two == pytest.approx(weight * math.log1p(math.exp(0.3))), "for two answers: a constant times DPO"
    assert lipo(beta=1.0)(scored([0.1, 0.4], 1.0), {"scores": [0.5, 0.5]})["preference"] == 0
    s, psi = [0.3, -0.2, 0.9, 0.1], [0.9, 0.4, 0.2, 0.6]
    plain = lipo(beta=0.5)(scored(s, 0.5), {"scores": psi})["preference"]
    shifted = lipo(beta=0.5)(scored([value + 7 for value in s], 0.5), {"scores": psi})["preference"]
    turned = lipo(beta=0.5)(scored(s[::-1], 0.5), {"scores": psi[::-1]})["preference"]
    assert plain == pytest.approx(shifted) == pytest.approx(turned)
