"""``check`` must be able to fail: methods that break each promise, and the promise they break."""

import itertools
import random
from dataclasses import replace

import pytest

from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.requests import Generate, Sampling, Text
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.core.steps import ask

from .play import Notebook, Scripted, Show, check, play, scenes

counter = itertools.count()


@method
def honest():
    def run(sample: Sample):
        reply = yield from ask(Generate(prompt=sample.prompt, sampling=Sampling(temperature=1)))
        again = yield from ask(Generate(prompt=sample.prompt.answered(reply.text).then("Sure?")))
        return [Demo(prompt=sample.prompt, answer=f"{reply.text} {again.text} {sample.rng('own').random()}")]

    return run


@method
def gambling():
    """Uses chance that is not its sample's."""

    def run(sample: Sample):
        reply = yield from ask(Generate(prompt=sample.prompt))
        return [Demo(prompt=sample.prompt, answer=f"{reply.text} {random.random()}")]

    return run


@method
def gossiping():
    """Lets one sample know how many came before it."""
    seen = []

    def run(sample: Sample):
        reply = yield from ask(Generate(prompt=sample.prompt))
        seen.append(sample.id)
        return [Demo(prompt=sample.prompt, answer=f"{reply.text} {len(seen)}")]

    return run


@method
def moody():
    """Asks something else every time it is run."""

    def run(sample: Sample):
        reply = yield from ask(Generate(prompt=sample.prompt.then(str(next(counter)))))
        return [Demo(prompt=sample.prompt, answer=reply.text)]

    return run


@fold
def first_come():
    def run(rows):
        return rows[:1]

    return run


def echo(request, chance):
    return Text(text=f"{chance.random():.3f}" if request.draws else "sure")


def show(name: str) -> Show:
    stages = {"made": {"method": f"{__name__}:{name}"}, "kept": {"fold": f"{__name__}:first_come", "rows": "made"}}
    return Show(stages, lambda: {"policy": Scripted(echo)}, scenes("boat", "star", "moon", "tree", "fish"))


def test_an_honest_method_passes():
    played = check(show("honest"))
    assert len(played.made[0, "made"]) == 5
    assert played.made[0, "kept"] == sorted(played.made[0, "made"], key=lambda row: row.origin.sample)[:1]


@pytest.mark.parametrize("name", ["gambling", "gossiping", "moody"])
def test_others_do_not(name):
    with pytest.raises(AssertionError):
        check(show(name))


def test_a_player_whose_replies_depend_on_its_batch_is_caught():
    class Herd(Scripted):
        def serve(self, requests, seeds):
            return [Text(text=f"{reply.text} {len(requests)}") for reply in super().serve(requests, seeds)]

    with pytest.raises(AssertionError):
        check(replace(show("honest"), players=lambda: {"policy": Herd(echo)}))


def test_drawn_replies_differ_between_rounds_and_greedy_ones_are_shared():
    memory = Notebook()
    played = play(replace(show("honest"), rounds=2, memory=memory))
    first, second = (played.made[number, "made"] for number in (0, 1))
    assert all(one.answer != other.answer for one, other in zip(first, second, strict=True))
    assert memory.paid == 5 * 4
