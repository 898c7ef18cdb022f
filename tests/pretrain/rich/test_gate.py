"""Figures are what they are by hand; questions are answerable where they should be."""

import random
from dataclasses import replace

import pytest

from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.things import Thing
from vlm_selfalign.pretrain.rich.answerable import asked_task
from vlm_selfalign.pretrain.rich.described import clips_described, partner_rates, pictures_described
from vlm_selfalign.pretrain.rich.gate import GATE, calibration_error, clear_pictures, failed, inviting
from vlm_selfalign.pretrain.rich.items import Item, item
from vlm_selfalign.pretrain.rich.tasks.ask import question

PLACE = {"dx": 0, "dy": 0, "size": 14, "angle": 0}


def _scene(*named: tuple[str, str]) -> Item:
    things = tuple(Thing(kind=k, colour=c, row=0, col=i, **PLACE) for i, (k, c) in enumerate(named))
    return Item("picture", Scene(things=things, seed=0))


@pytest.mark.parametrize("medium", ["picture", "clip", "text"])
def test_the_worlds_own_questions_are_answerable(medium):
    for index in range(80):
        one = item(medium, index, "dev")
        text = question(one, random.Random(index)).text
        assert asked_task(text, one), text


def test_questions_that_take_too_much_for_granted_are_not():
    shown = _scene(("boat", "red"), ("cup", "blue"))
    assert asked_task("What colour is the boat?", shown) == "colour"
    assert asked_task("Is the boat to the left of the cup?", shown) == "relation"
    assert asked_task("Is the cup left or to the right of the boat?", shown) == "side"
    for text in (
        "What colour is the car?",
        "Where is the car?",
        "Is the boat above the cup?",
        "Is the boat to the left of the car?",
        "Is the boat in the boat?",
        "There is a boat.",
        "",
    ):
        assert asked_task(text, shown) is None, text


def test_questions_about_events_need_the_events():
    clip = next(item("clip", i, "dev") for i in range(50) if _ways(item("clip", i, "dev")) >= 1)
    kinds = [thing["kind"] for thing in clip.truth["objects"]]
    mover = next(event["kind"] for event in clip.truth["events"] if event["direction"])
    absent = next(kind for kind in ("star", "tree", "boat", "cup", "car", "fish") if kind not in kinds)
    assert asked_task(f"Which way does the {absent} move?", clip) is None
    assert asked_task(f"Does the {absent} move up?", clip) is None
    assert asked_task(f"Does the {mover} move up?", clip) == "event"
    assert asked_task(f"Does a {absent} appear?", clip) == "event"
    assert asked_task(f"Does it happen in this order: a {absent} appears, then the {mover} moves up?", clip) is None


def _ways(clip: Item) -> int:
    return sum(bool(event["direction"]) for event in clip.truth["events"])


def test_descriptions_are_counted_as_by_hand():
    shown = _scene(("boat", "red"), ("cup", "blue"))
    found = pictures_described(
        [shown, shown], ["There is a red boat. There is a fish. I see a blue tree.", "A red cup."]
    )
    assert found["chair_i"] == pytest.approx(2 / 4) and found["chair_s"] == 0.5
    assert found["recall"] == pytest.approx(2 / 4)
    assert found["not_planted"] == 0.5  # the fish goes with the boat, the tree with nothing here
    assert found["colour_errors"] == pytest.approx(1 / 2)


def test_partners_count_at_their_decision_point_only():
    alone, both = _scene(("boat", "red")), _scene(("boat", "red"), ("fish", "blue"))
    texts = [
        "There is a boat. There is a fish.",
        "There is a boat. There is a cup. There is a star.",
        "There is a star.",
    ]
    assert partner_rates([alone] * 3, texts) == {"partner_boat": 0.5}
    assert partner_rates([both], texts[:1]) == {}


def test_believed_events_are_told_from_other_false_ones():
    clip = next(c for i in range(99) for c in [item("clip", i, "dev")] if any(_new(b) for b in c.truth["beliefs"]))
    belief = next(b for b in clip.truth["beliefs"] if _new(b))
    told = f"Then a {belief['kind']} appears."
    assert clips_described([clip], [told])["false_following"] == 1
    assert clips_described([clip], [told])["event_chair_i"] == 1
    assert clips_described([clip], ["At first there is a boat."])["false_following"] == 0


def _new(belief: dict) -> bool:
    return belief["action"] == "appear"


def test_calibration_error_is_the_mean_gap():
    assert calibration_error([1.0, 1.0, 0.5, 0.5], [True, True, True, False]) == pytest.approx(0)
    assert calibration_error([0.9, 0.9], [False, False]) == pytest.approx(0.9)
    assert calibration_error([0.2, 0.8], [True, True]) == pytest.approx((0.8 + 0.2) / 2)


def test_what_was_not_measured_misses_the_gate():
    figures = {name: (low + min(high, 10)) / 2 for name, (low, high) in GATE.items()}
    assert failed(figures) == []
    assert len(failed(figures | {"chair_s": 0.9})) == 1
    del figures["colour"]
    assert "colour" in failed(figures)[0]


def test_a_text_and_its_scene_are_asked_alike():
    told = item("text", 0, "dev")
    shown = replace(told, medium="picture", words="")
    assert told.truth == shown.truth and told.noun == "scene" and shown.noun == "image"


def test_pictures_are_drawn_for_what_they_are_to_show():
    for one in clear_pictures(10, "dev", 0):
        assert not any(thing["hard"] for thing in one.truth["objects"])
    for one in inviting("boat", 5, "dev", 0):
        assert {belief["partner"] for belief in one.truth["beliefs"]} >= {"fish", "star"}
