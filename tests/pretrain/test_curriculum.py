"""Phases begin when they should, tasks tell the truth (but for captions)."""

import random

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.curriculum import CURRICULUM, Phase, exchanges, phase_at
from vlm_selfalign.pretrain.tasks import task


def test_phases_never_go_back_and_wait_for_yes_no():
    three = (*CURRICULUM, Phase("late", {"count": 1}, start=500))
    assert phase_at(10, 0, 0.5, three) == 0
    assert phase_at(10, 0, 0.95, three) == 1
    assert phase_at(11, 1, 0.5, three) == 1
    assert phase_at(499, 1, 1.0, three) == 1
    assert phase_at(500, 1, 1.0, three) == 2
    assert phase_at(500, 0, 0.2, three) == 2


@pytest.mark.parametrize("name", ["existence", "colour", "count", "describe", "blind", "followup"])
def test_tasks_are_deterministic_and_give_what_is_asked(name):
    shown, dials = scene(5), WorldSettings()
    first = task(name).branches(shown, random.Random(1), 2, dials)
    assert first == task(name).branches(shown, random.Random(1), 2, dials)
    assert len(first) == 2
    assert all(branch.sees != (name == "blind") for branch in first)


def test_yes_is_as_common_as_no_and_true():
    answers = []
    for index in range(100):
        shown = scene(index)
        for branch in task("existence").branches(shown, random.Random(index), 6, WorldSettings()):
            assert (branch.answer == "Yes") == any(f" a {kind}" in branch.question for kind in shown.kinds)
            answers.append(branch.answer)
    assert 0.45 < answers.count("Yes") / len(answers) < 0.55


def test_a_fraction_is_a_chance():
    phase = Phase("half", {"count": 1, "blind": 0.5})
    sizes = [len(exchanges(phase, scene(i), random.Random(i), WorldSettings())) for i in range(300)]
    assert 1.4 < sum(sizes) / len(sizes) < 1.6


def test_a_phase_that_teaches_nothing_is_refused():
    with pytest.raises(UserError, match="teaches nothing"):
        exchanges(Phase("none", {"count": 0}), scene(0), random.Random(0), WorldSettings())
