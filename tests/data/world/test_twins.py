"""Text twins and arithmetic: the answers can be worked out from the text alone."""

import operator
import re

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.arithmetic import DIFFICULTY, LEVELS, problems
from vlm_selfalign.data.world.clips.questions import CLIP_TASKS
from vlm_selfalign.data.world.questions import TASKS
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.data.world.twins import in_words, twin_questions

RICH = WorldSettings.of(base="rich")


def read(text):
    """Our own reader of a scene in words: (kind, colour, row, column, place)."""
    found = []
    parts = re.split(r"(?<=\.)\s", text)
    for part in parts:
        words = re.findall(r"\w+", part)
        row, column = re.search(r"[Rr]ow (\d)(?: and|,) column (\d)", part).groups()
        place = re.search(r"(top|bottom) (left|right)", part).group()
        colour, kind = next(w for w in words if w in COLOURS), next(w for w in words if w in KINDS)
        found.append((kind, colour, int(row), int(column), place))
    return found


def work_out(question, objects):
    """The answer from what was read."""
    text, kinds = question.text, [o[0] for o in objects]
    named = [k for k in re.findall(r"\w+", text) if k in KINDS or k.rstrip("s") in KINDS or k in ("boxes",)]
    kind = next((("box" if n == "boxes" else n if n in KINDS else n.rstrip("s")) for n in named), None)
    mine = [o for o in objects if o[0] == kind]
    if question.task.startswith("existence"):
        return "Yes" if kind in kinds else "No"
    if question.task == "colour":
        return mine[0][1]
    if question.task == "count":
        return str(len(objects))
    if question.task == "count_kind":
        return str(len(mine))
    if question.task == "position":
        return mine[0][4]
    if question.task == "in_place":
        return "Yes" if mine[0][4] in text else "No"
    other = next(o for o in objects if o[0] == named[1])
    holds = {
        "left": mine[0][3] < other[3],
        "right": mine[0][3] > other[3],
        "above": mine[0][2] < other[2],
        "below": mine[0][2] > other[2],
    }
    if question.task == "relation":
        return "Yes" if next(value for name, value in holds.items() if name in text) else "No"
    return next(name for name in question.choices if holds[name])


@pytest.mark.parametrize("task", TASKS)
def test_answers_follow_from_the_words(task):
    checked = 0
    for index in range(80):
        shown = scene(index, "dev", settings=RICH)
        objects = read(in_words(shown, rng("words", index), RICH))
        assert sorted(o[0] for o in objects) == sorted(t.kind for t in shown.things)
        for question in twin_questions(truth(shown, RICH), task, rng("q", index), RICH.partners):
            assert work_out(question, objects) == question.answer, (question, objects)
            assert "image" not in question.text
            checked += 1
    assert checked >= 80


def test_the_source_asks_all_tasks_in_turn():
    for of, tasks in (("scene", TASKS), ("clip", CLIP_TASKS)):
        samples = list(resolve("source", "worldtext")(limit=60, of=of))
        assert samples == list(resolve("source", "worldtext")(limit=60, of=of))
        assert len({sample.id for sample in samples}) == 60 and {s.truth["task"] for s in samples} == set(tasks)
        assert all(not s.prompt.media and s.truth["answer"] and "objects" in s.truth for s in samples)
    only = resolve("source", "worldtext")(limit=12, tasks=["colour", "count"])
    assert {sample.truth["task"] for sample in only} == {"colour", "count"}


def test_a_story_in_words_tells_all_events_in_order():
    for sample in resolve("source", "worldtext")(limit=30, of="clip"):
        text = sample.prompt.question
        places = []
        for event in sample.truth["events"]:
            verb = {"move": "moves", "meet": "meets", "appear": "appears", "vanish": "vanishes"}[event["action"]]
            places.append(text.index(f"{event['kind']} {verb}", places[-1] + 1 if places else 0))
        assert places == sorted(places)
        assert all(item["colour"] in text for item in sample.truth["objects"])


def test_wrong_settings_of_texts_are_the_users_mistake():
    with pytest.raises(UserError, match="did you mean 'colour'"):
        list(resolve("source", "worldtext")(limit=1, tasks=["color"]))
    with pytest.raises(UserError, match="limit=400, but only 252 different problems"):
        resolve("source", "arithmetic")(limit=400)
    with pytest.raises(UserError, match="no level 6; known: 0 to 5"):
        resolve("source", "arithmetic")(levels=[6])


SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def test_arithmetic_is_right_graded_and_never_asked_twice():
    samples = list(resolve("source", "arithmetic")(split="test", limit=240))
    assert len({sample.id for sample in samples}) == 240
    for number, sample in enumerate(samples):
        first, sign, second = re.fullmatch(r"What is (\d+) (.) (\d+)\?", sample.prompt.question).groups()
        assert int(sample.truth["answer"]) == SIGNS[sign](int(first), int(second))
        assert sample.truth["level"] == number % 6 and sample.truth["difficulty"] == DIFFICULTY[number % 6]


@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_what_they_say_and_splits_are_disjoint(level):
    splits = [set(problems(level, split)) for split in ("train", "dev", "test")]
    assert sum(map(len, splits)) == len(set().union(*splits)) > 300
    assert problems(level, "train", 1) != problems(level, "train", 0)
    assert set(problems(level, "train", 1)) == splits[0]
    for one in splits[1]:
        ones = one.first % 10 + (1 if one.sign == "+" else -1) * (one.second % 10)
        assert 10 <= one.first <= 99 and 1 <= one.second <= 99
        if level in (0, 1):
            assert one.sign == "+" and ones < 10
        if level in (2, 3):
            assert ones > 9 or ones < 0
        assert (level > 3) == (one.sign == "*")
