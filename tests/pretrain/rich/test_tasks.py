"""Checks and lists of questions are what the methods that ask for them can read."""

import random

import pytest

from vlm_selfalign.pretrain.rich.answerable import asked_task
from vlm_selfalign.pretrain.rich.items import item
from vlm_selfalign.pretrain.rich.tasks import branches
from vlm_selfalign.pretrain.rich.tasks.ask import question
from vlm_selfalign.pretrain.rich.tasks.ask_list import ABOUT, MOST
from vlm_selfalign.pretrain.rich.tasks.checked import FAULT, FINE, wrong
from vlm_selfalign.scoring.revisions import CRITICISE, REVISE, only_praises
from vlm_selfalign.scoring.self_asked import questions_in


@pytest.mark.parametrize("medium", ["picture", "clip", "text"])
def test_a_wrong_answer_is_of_the_same_sort_and_wrong(medium):
    chance = random.Random(0)
    for number in range(60):
        asked = question(item(medium, number, "train"), chance)
        given = wrong(asked, chance)
        assert given != asked.answer
        assert given.isdigit() == asked.answer.isdigit()
        assert (given in ("Yes", "No")) == (asked.answer in ("Yes", "No"))
        assert not asked.choices or given in asked.choices


@pytest.mark.parametrize("medium", ["picture", "clip", "text"])
def test_critiques_are_read_as_meant(medium):
    """What finds nothing only praises; what finds something does not, whatever the right answer is."""
    found: dict[str, set[bool]] = {}
    for number in range(80):
        for branch in branches("checked", item(medium, number, "train"), random.Random(number), 4):
            if branch.question == CRITICISE:
                ((_, given),) = branch.before
                found.setdefault("criticised", set()).add(branch.answer == FINE)
                assert only_praises(branch.answer) == (branch.answer == FINE)
                assert FAULT.format(answer=given) != branch.answer
            elif branch.question == REVISE:
                (_, given), (_, critique) = branch.before
                assert critique == (FINE if given == branch.answer else FAULT.format(answer=branch.answer))
            else:
                found.setdefault(branch.question.rsplit("\n", 1)[1], set()).add(branch.answer in ("Yes", "A"))
    assert set(map(frozenset, found.values())) == {frozenset((True, False))} and len(found) == 3


def test_a_list_of_questions_is_one_that_the_clip_answers():
    lists = 0
    for number in range(40):
        one = item("clip", number, "train")
        for branch in branches("ask_list", one, random.Random(number), 2):
            asked = questions_in(branch.answer)
            (prompt,) = [p for p in ABOUT if p.format(count=len(asked)) == branch.question]
            assert len(set(asked)) == len(asked) <= MOST
            assert all(asked_task(text, one) in ABOUT[prompt] or "believed" in ABOUT[prompt] for text in asked)
            assert all(asked_task(text, one) for text in asked)
            lists += 1
    assert lists > 60
