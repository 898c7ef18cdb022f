"""The complete truth of a scene."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vlm_selfalign.data.world.language import place
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.truth import relations, truth

REVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "next to": "next to"}

DIALS = st.fixed_dictionaries(
    {
        "cells": st.integers(3, 5),
        "cell": st.sampled_from([16, 20, 32]),
        "small": st.floats(0, 0.3),
        "faint": st.floats(0, 0.3),
        "occluded": st.floats(0, 0.3),
        "repeats": st.floats(0, 1),
        "most": st.integers(2, 6),
    }
)


ON_THE_EDGE = {"cells": 5, "cell": 32, "small": 0.25, "faint": 0.25, "occluded": 0.25, "repeats": 0.5, "most": 2}
"""With scene 5: an object of which a little less than .2 is hidden, and .2 when rounded."""


@given(dials=DIALS, index=st.integers(0, 10_000))
@example(dials=ON_THE_EDGE, index=5)
@settings(max_examples=60, deadline=None)
def test_it_is_whole_and_agrees_with_itself(dials, index):
    world = WorldSettings.of(**dials)
    shown = scene(index, "dev", 1, world)
    known = truth(shown, world)
    assert json.loads(json.dumps(known)) == known == truth(shown, world)
    assert sum(known["counts"].values()) == len(known["objects"]) == len(shown.things)
    assert sorted(known["order"]) == list(range(len(shown.things)))
    said = {tuple(relation) for relation in known["relations"]}
    for first, name, second in said:
        assert (second, REVERSE[name], first) in said
        assert name == "next to" or (first, REVERSE[name], second) not in said
        assert known["counts"][first] == known["counts"][second] == 1
    for item in known["objects"]:
        assert item["place"] == place(item, world.cells)
        assert ("small" in item["hard"]) == (item["size"] == "small")
        assert 0 <= item["hidden"] <= 1 and ("occluded" in item["hard"]) == (item["hidden"] >= 0.2)
    for belief in known["beliefs"]:
        assert belief["trigger"] in known["counts"] and belief["partner"] not in known["counts"]


def test_relations_need_a_clear_distance():
    counts = {"cup": 1, "box": 1}
    assert relations([("cup", 0.5, 0.5), ("box", 1.5, 0.6)], counts) == [
        ["cup", "left of", "box"],
        ["cup", "next to", "box"],
        ["box", "right of", "cup"],
        ["box", "next to", "cup"],
    ]
    assert relations([("cup", 0.5, 0.5), ("box", 1.2, 3.5)], counts) == [
        ["cup", "above", "box"],
        ["box", "below", "cup"],
    ]
    assert relations([("cup", 0.5, 0.5), ("cup", 3.5, 0.5)], {"cup": 2}) == []


def test_places_have_names_on_any_grid():
    assert [place({"row": r, "col": c}, 3) for r, c in ((0, 0), (1, 1), (1, 2), (2, 1))] == [
        "top left",
        "centre",
        "middle right",
        "bottom middle",
    ]
    assert place({"row": 1, "col": 2}) == "top right" and place({"row": 2, "col": 1}, 4) == "bottom left"
