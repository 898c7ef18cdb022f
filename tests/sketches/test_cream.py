"""CREAM (Wang et al. 2024): trust a self-made preference as much as two versions of the model agree on rankings.

Bends the house: versions of a role side by side, a mean over the data set, a fit that only warms up round 0.
"""

import itertools
import random
from collections import Counter
from dataclasses import replace
from statistics import fmean
from typing import Literal

import pytest
from scipy.stats import kendalltau

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.requests import Generate, Sampling, Score, Scored, Text
from vlm_selfalign.core.rows import Demo, Pair
from vlm_selfalign.core.seeds import digest, seed_of
from vlm_selfalign.core.steps import ask, ask_all, together

from .play import Scripted, Show, check, play, scenes, seen


@method
def describe():
    def run(sample: Sample):
        caption = yield from ask(Generate(prompt=sample.prompt))
        return [Demo(prompt=sample.prompt, answer=caption.text)]

    return run


@method
def cream(samples: int = 5, earlier_by: Literal["likelihood", "reward"] = "reward"):
    """``earlier_by``: what the previous version ranks by; its likelihood while it is still the reference itself."""
    drawing = Sampling(temperature=0.8, top_p=0.95, max_tokens=768)

    def run(sample: Sample):
        drawn = yield from ask_all(Generate(prompt=sample.prompt, draw=i, sampling=drawing) for i in range(samples))
        answers = sorted({reply.text for reply in drawn})
        if len(answers) < 2:
            raise Drop("all answers are the same")
        now, before, start = yield from together(
            *(likelihoods(sample, answers, role) for role in ("policy", "policy@-1", "policy@0"))
        )
        reward = [sum(n) - sum(s) for n, s in zip(now, start, strict=True)]
        by_reward = [sum(b) - sum(s) for b, s in zip(before, start, strict=True)]
        earlier = by_reward if earlier_by == "reward" else [fmean(b) for b in before]
        ranked = sorted(zip(reward, answers, strict=True))
        return [Pair(prompt=sample.prompt, chosen=ranked[-1][1], rejected=ranked[0][1],
                     notes={"consistency": consistency(reward, earlier)})]  # fmt: skip

    return run


def likelihoods(sample: Sample, answers: list[str], role: str):
    replies = yield from ask_all(Score(prompt=sample.prompt, answer=answer, to=role) for answer in answers)
    return [reply.logprobs for reply in replies]


def consistency(one: list[float], other: list[float]) -> float:
    """(Kendall's tau-b + 1) / 2."""
    return (float(kendalltau(one, other).statistic) + 1) / 2


@fold
def mean_label():
    """Every label is right with the probability that rankings agreed over the whole data set."""

    def run(rows):
        trust = fmean(row.notes["consistency"] for row in rows)
        return [row.model_copy(update={"label_prob": trust}) for row in rows]

    return run


def version(identity: str) -> Scripted:
    """A model whose taste in words is its identity's."""

    def answer(request, chance):
        if isinstance(request, Score):
            words = request.answer.split()
            taste = [-(seed_of(identity, word, len(seen(request.prompt))) % 997) / 200 for word in words]
            return Scored(ids=tuple(map(len, words)), logprobs=tuple(taste))
        words = ["a", "the", "red", "big", "old", "small", "new"]
        if seen(request.prompt) == "duck":
            return Text(text="a duck")
        return Text(text=f"{' '.join(chance.sample(words, 2))} {seen(request.prompt)}")

    return Scripted(answer, identity)


def fitted(rows, roles):
    return version(f"{roles['policy'].identity}+{digest(*(row.digest for row in rows))[:6]}")


RECIPE = {
    "seeds": {"method": f"{__name__}:describe", "in_rounds": [0]},
    "warm": {"fit": "sft", "role": "policy", "rows": "seeds", "in_rounds": [0]},
    "ranked": {"method": f"{__name__}:cream", "earlier_by": {"per_round": ["likelihood", "reward"]}},
    "pairs": {"fold": f"{__name__}:mean_label", "rows": "ranked"},
    "policy": {"fit": "soft_dpo", "rows": "pairs"},
}
SEEN = ("boat", "star moon", "tree fish kite", "duck")
SHOW = Show(RECIPE, lambda: {"policy": version("base")}, scenes(*SEEN), {"sft": fitted, "soft_dpo": fitted}, rounds=2)


def test_plays_the_same_however_it_is_run():
    check(SHOW)


def test_words_alone_go_the_same_way():
    words, pictures = play(replace(SHOW, samples=scenes(*SEEN, pictures=False))), play(SHOW)
    assert words.drops == pictures.drops == Counter({"all answers are the same": 2})
    assert [len(words.made[key]) for key in words.made] == [len(pictures.made[key]) for key in pictures.made]


def test_every_row_carries_the_mean_of_all():
    played = play(SHOW)
    for round_number in (0, 1):
        trusts = [row.notes["consistency"] for row in played.made[round_number, "ranked"]]
        assert {row.label_prob for row in played.made[round_number, "pairs"]} == {fmean(trusts)}
    assert (1, "seeds") not in played.made


def test_each_round_asks_the_versions_it_should():
    played = play(SHOW)
    lineage = [played.players[f"policy@{number}"].identity for number in range(4)]
    assert lineage[0] == "base" and all(new.startswith(old) for old, new in itertools.pairwise(lineage))
    asked = [Counter(type(r).__name__ for r in played.players[f"policy@{number}"].asked) for number in range(4)]
    ranked = [asked[number]["Score"] for number in range(3)]
    # Round 0: 1 and 0 (0 is previous and first at once, and pays once); round 1: 2, 1 and 0 on other answers.
    assert ranked[0] == ranked[1] > ranked[2] > 0 and not asked[3]
    assert asked[0]["Generate"] == len(SEEN), "only the seeds are the first version's"


def test_consistency_is_one_zero_or_half():
    assert consistency([1, 2, 3], [10, 20, 30]) == 1
    assert consistency([1, 2, 3], [30, 20, 10]) == 0
    chance = random.Random(0)
    trusts = [consistency(list(range(5)), chance.sample(range(5), 5)) for _ in range(500)]
    assert fmean(trusts) == pytest.approx(0.5, abs=0.04)
