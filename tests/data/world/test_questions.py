"""Questions and their right answers."""

import random
from collections import Counter

from vlm_selfalign.data.world.questions import absent, colours, count, existence
from vlm_selfalign.data.world.scenes import scene


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
