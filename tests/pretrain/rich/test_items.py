"""Items are the same for the same arguments; what is taught about them is true."""

import random

import pytest

from vlm_selfalign.pretrain.rich.curriculum import CURRICULUM, STEPS, exchanges, phase_at
from vlm_selfalign.pretrain.rich.items import crowded, item
from vlm_selfalign.pretrain.rich.tasks import arithmetic, branches, exists

MEDIA = ("picture", "clip", "text")


@pytest.mark.parametrize("medium", MEDIA)
def test_the_same_arguments_give_the_same_item_and_lessons(medium):
    for index in range(4):
        one, again = item(medium, index, "dev"), item(medium, index, "dev")
        assert one == again and one != item(medium, index, "train")
        for phase in CURRICULUM:
            assert exchanges(phase, one, random.Random(3)) == exchanges(phase, again, random.Random(3))


def test_crowded_pictures_are_full():
    kinds = [len(crowded(index).of.kinds) for index in range(10)]
    assert min(kinds) >= 8
    assert crowded(3) == crowded(3) != crowded(4)


def test_a_text_tells_the_objects_that_its_questions_are_about():
    for index in range(20):
        one = item("text", index, "dev")
        assert all(thing["kind"] in one.words for thing in one.truth["objects"])
        assert one.noun == ("story" if index % 2 else "scene")
        assert all("image" not in b.question and "clip" not in b.question for b in branches("count", one, _chance(), 3))


@pytest.mark.parametrize("medium", MEDIA)
def test_yes_is_as_common_as_no_and_true(medium):
    answers = []
    for index in range(100):
        one = item(medium, index, "train")
        there = {thing["kind"] for thing in one.truth["objects"]}
        for branch in exists.branches(one, random.Random(index), 6):
            assert (branch.answer == "Yes") == any(f" a {kind}" in branch.question for kind in there)
            answers.append(branch.answer)
    assert 0.45 < answers.count("Yes") / len(answers) < 0.55


def test_problems_are_right_and_of_the_training_split():
    for branch in arithmetic.branches(item("text", 0, "train"), _chance(), 200):
        assert not branch.sees
        problem = branch.question.removeprefix("What is ").removesuffix("?")
        assert str(eval(problem)) == branch.answer


def test_phases_end_where_they_should():
    last = CURRICULUM[0].until
    assert phase_at(0) is CURRICULUM[0]
    assert phase_at(last - 1) is CURRICULUM[0] and phase_at(last) is CURRICULUM[1]
    assert phase_at(STEPS - 1) is CURRICULUM[-1]


def _chance():
    return random.Random(0)
