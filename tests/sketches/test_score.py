"""SCoRe (Kumar et al. 2024): answer, correct yourself, be paid per turn; trained on the model as it is now.

Bends the house: training that samples inside its own loop, from a driver whose memory forgets.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from vlm_selfalign.core.driver import Driver
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Call, Generate, Sampling, Text, Value
from vlm_selfalign.core.rows import Episode, Turn
from vlm_selfalign.core.steps import ask, together

from .play import Scripted, Show, check, play, scenes, seen

REVIEW = "There may be a mistake in the answer above. Look again and give your final answer."


@method
def score(draws: int = 4, bonus: float = 10.0, first_counts: bool = True):
    """``draws`` episodes per sample. Stage I pays the second turn only (``first_counts=False``, ``bonus=0``)."""

    def run(sample: Sample):
        return (yield from together(*(episode(sample, draw) for draw in range(draws))))

    def episode(sample: Sample, draw: int):
        thinking = Sampling(temperature=0.6)
        first = yield from ask(Generate(prompt=sample.prompt, draw=draw, sampling=thinking))
        again = sample.prompt.answered(first.text).then(REVIEW)
        second = yield from ask(Generate(prompt=again, draw=draw, sampling=thinking))
        before, after = yield from together(*(verified(sample, reply.text) for reply in (first, second)))
        return Episode(
            turns=(Turn(prompt=sample.prompt, answer=first.text), Turn(prompt=again, answer=second.text)),
            rewards=(before if first_counts else 0.0, after + bonus * (after - before)),
        )

    return run


def verified(sample: Sample, answer: str):
    verdict = yield from ask(Call(to="verifier", arguments={"answer": answer, "truth": sample.truth}))
    return float(verdict.value)


@dataclass
class Tabular:
    """A policy of three logits: right at first, right after right, right after wrong. Learns; its identity moves."""

    logits: dict[str, float] = field(default_factory=lambda: {"": 0.0, "right": 1.39, "wrong": -1.39})
    batch_size: int = 64
    steps: int = 0

    @property
    def identity(self) -> str:
        return f"tabular-{self.steps}"

    def p(self, context: str) -> float:
        return 1 / (1 + math.exp(-self.logits[context]))

    def serve(self, requests, seeds):
        return [Text(text="right" if (seed % 9973) / 9973 < self.p(context(r.prompt)) else "wrong")
                for r, seed in zip(requests, seeds, strict=True)]  # fmt: skip

    def learn(self, episodes: list[Episode], kl: float, rate: float = 1.0) -> None:
        """REINFORCE per turn, each turn's reward less the mean of the others', with ``kl`` to the start on turn one."""
        gradient = Counter()
        for turn in (0, 1):
            rewards = [episode.rewards[turn] for episode in episodes]
            for reward, episode in zip(rewards, episodes, strict=True):
                baseline = (sum(rewards) - reward) / (len(rewards) - 1)
                where = context(episode.turns[turn].prompt)
                slope = (episode.turns[turn].answer == "right") - self.p(where)
                gradient[where] += (reward - baseline) * slope / len(episodes)
        gradient[""] -= kl * self.logits[""] * self.p("") * (1 - self.p(""))
        for where, value in gradient.items():
            self.logits[where] += rate * value
        self.steps += 1


def context(prompt) -> str:
    return prompt.messages[-2].text if len(prompt.messages) > 1 else ""


def trained(policy: Tabular, samples, steps: int, kl: float, **settings) -> Tabular:
    """The training loop: every step runs the method on the live policy; the default memory forgets."""
    for _ in range(steps):
        driver = Driver({"policy": policy, "verifier": Scripted(verifier, "verifier", batch_size=512)})
        seeded = [sample.seeded(0, policy.steps) for sample in samples]
        episodes = [row for block in driver.run(score(**settings), seeded) for done in block for row in done.rows]
        policy.learn(episodes, kl)
    return policy


def verifier(request: Call, chance):
    return Value(value=request.arguments["answer"] == request.arguments["truth"])


def policy(request: Generate, chance):
    said = context(request.prompt)
    return Text(text=chance.choice([seen(request.prompt), "duck", said or "fish"]))


RECIPE = {"episodes": {"method": f"{__name__}:score", "draws": 3}}
SAMPLES = [sample.model_copy(update={"truth": name}) for name in ("boat", "star", "moon")
           for sample in scenes(name)]  # fmt: skip
SHOW = Show(RECIPE, lambda: {"policy": Scripted(policy), "verifier": Scripted(verifier, "verifier")}, SAMPLES)


def test_plays_the_same_however_it_is_run():
    check(SHOW)


@pytest.mark.parametrize(("before", "after", "paid"), [(0, 1, 11), (1, 0, -10), (1, 1, 1), (0, 0, 0)])
def test_the_bonus_reaches_the_second_turn_only(before, after, paid):
    says = iter([("wrong", "right")[before], ("wrong", "right")[after]])
    cast = {"policy": Scripted(lambda request, chance: Text(text=next(says))), "verifier": Scripted(verifier)}
    sample = SAMPLES[0].model_copy(update={"truth": "right"})
    ((finished,),) = Driver(cast).run(score(draws=1), [sample])
    assert finished.rows[0].rewards == (before, paid)


def test_the_same_answer_is_verified_once():
    played = play(replace(SHOW, samples=SAMPLES[:1]))
    calls = [request.digest for request in played.asked if isinstance(request, Call)]
    assert len(calls) == len(set(calls)) < 6


def test_training_that_samples_learns_to_correct_itself():
    samples = [sample.model_copy(update={"truth": "right", "id": f"{i}"}) for i, sample in enumerate(SAMPLES * 3)]
    policy = trained(Tabular(), samples, steps=60, kl=5.0, draws=4, bonus=0.0, first_counts=False)
    assert policy.p("") == 0.5, "stage I leaves the first turn where it was"
    assert min(policy.p("right"), policy.p("wrong")) > policy.p("")
    halfway = policy.p("wrong")
    trained(policy, samples, steps=30, kl=0.0, draws=4, bonus=10.0)
    assert policy.p("wrong") > max(halfway, 0.8)


def test_a_memory_that_forgets_asks_the_live_policy_again():
    samples = SAMPLES[:1]
    once, twice = Tabular(), Tabular()
    assert trained(once, samples, 3, 0.1).logits == trained(twice, samples, 3, 0.1).logits
    assert once.identity == "tabular-3"
