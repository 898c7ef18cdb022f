"""Questions and their right answers."""

import random
from collections import Counter

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.world.questions import TASKS, YES_NO, absent, asked, colours, count, existence
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.truth import truth

RICH = WorldSettings.of(base="rich")
KNOWN = [truth(scene(index, "dev", settings=RICH), RICH) for index in range(400)]


def of_all(task):
    return [asked(known, task, random.Random(index), RICH.partners) for index, known in enumerate(KNOWN)]


def test_existence_is_balanced_and_true():
    for index in range(100):
        objects = scene(index, "dev").objects
        asked = existence(objects, "random", 3, random.Random(index))
        answers = Counter(question.answer for question in asked)
        assert answers["Yes"] == answers["No"] == min(3, len(objects))
        present = {item["kind"] for item in objects}
        assert all((question.kind in present) == (question.answer == "Yes") for question in asked)
        assert all(question.kind in question.text for question in asked)


def test_adversarial_asks_for_the_partner_first():
    assert absent(["boat", "tree"], "adversarial", random.Random(0))[0] == "fish"
    assert absent(["boat", "kite"], "adversarial", random.Random(0))[:2] == ["fish", "ball"]
    assert set(absent(["boat"], "popular", random.Random(0))[:4]) == {"fish", "car", "ball", "box"}


def test_colour_and_count():
    objects = scene(1, "dev").objects
    assert count(objects).answer == str(len(objects))
    assert [question.answer for question in colours(objects)] == [item["colour"] for item in objects]


@pytest.mark.parametrize("task", YES_NO)
def test_yes_and_no_are_as_many_in_every_scene_and_come_in_any_order(task):
    first = Counter()
    for questions in of_all(task):
        assert Counter(q.answer for q in questions) in (
            Counter(),
            Counter(Yes=len(questions) // 2, No=len(questions) // 2),
        )
        first.update(q.answer for q in questions[:1])
    assert abs(first["Yes"] / first.total() - 0.5) < 0.1


@pytest.mark.parametrize("task", ["in_place", "relation"])
def test_the_wording_does_not_give_the_answer_away(task):
    names = ("top left", "top right", "bottom left", "bottom right", "the left of", "the right of", "above", "below")
    found = Counter((name, q.answer) for few in of_all(task) for q in few for name in names if name in q.text)
    assert len(found) == 8
    for name in {name for name, _ in found}:
        assert abs(found[name, "Yes"] / (found[name, "Yes"] + found[name, "No"]) - 0.5) < 0.05


def test_the_right_choice_stands_first_half_of_the_time_and_every_way_is_asked():
    questions = [q for few in of_all("side") for q in few]
    assert all(q.answer in q.choices and len(set(q.choices)) == 2 for q in questions)
    assert abs(sum(q.answer == q.choices[0] for q in questions) / len(questions) - 0.5) < 0.03
    answers = Counter(q.answer for q in questions)
    assert answers["left"] == answers["right"] and answers["above"] == answers["below"]


def test_answers_are_spread():
    places = Counter(q.answer for few in of_all("position") for q in few)
    assert set(places) == {"top left", "top right", "bottom left", "bottom right"}
    assert max(places.values()) / places.total() < 0.3
    colour = Counter(q.answer for few in of_all("colour") for q in few)
    assert len(colour) == 6 and max(colour.values()) / colour.total() < 0.22
    numbers = Counter(q.answer for few in of_all("count_kind") for q in few)
    assert numbers["0"] / numbers.total() == 0.5 and {"1", "2", "3"} <= set(numbers)


def test_answers_agree_with_the_truth():
    for known, index in zip(KNOWN, range(100), strict=False):
        single = {o["kind"]: o for o in known["objects"] if known["counts"][o["kind"]] == 1}
        for task in TASKS:
            for q in asked(known, task, random.Random(index), RICH.partners):
                assert q.task == task
                if task == "position":
                    assert single[q.kind]["place"] == q.answer
                if task == "in_place":
                    assert (single[q.kind]["place"] in q.text) == (q.answer == "Yes")
                if task.startswith("existence"):
                    assert (q.kind in known["counts"]) == (q.answer == "Yes")
                if task == "count_kind":
                    assert int(q.answer) == known["counts"].get(q.kind, 0)
                if task not in ("count", "side", "relation") and q.kind in single:
                    assert q.hard == tuple(sorted(single[q.kind]["hard"]))


def test_adversarial_follows_the_settings_partners():
    known = {"objects": [{"kind": "kite", "colour": "red", "hard": []}], "counts": {"kite": 1}}
    absent_one = [
        q.kind for q in asked(known, "existence_adversarial", random.Random(0), RICH.partners) if q.answer == "No"
    ]
    assert absent_one == ["ball"]


def test_a_question_can_be_limited_and_a_wrong_task_is_named():
    assert len(asked(KNOWN[0], "relation", random.Random(0), count=1)) == 2
    assert len(asked(KNOWN[0], "colour", random.Random(0), count=1)) == 1
    with pytest.raises(UserError, match="did you mean 'relation'"):
        asked(KNOWN[0], "relatoin", random.Random(0))
