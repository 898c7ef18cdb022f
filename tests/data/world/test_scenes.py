"""Scenes: seeded, complete, disjoint splits."""

from collections import Counter

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.world.scenes import address, located, scene, share
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings


def test_same_arguments_same_scene():
    assert scene(7, "dev", 3) == scene(7, "dev", 3)
    assert scene(7, "dev", 3) != scene(8, "dev", 3) != scene(8, "dev", 4)


def test_scene_keeps_the_rules():
    for index in range(200):
        things = scene(index).things
        assert 2 <= len(things) <= 5
        assert len({thing.kind for thing in things}) == len(things)
        assert len({(thing.row, thing.col) for thing in things}) == len(things)
        assert [KINDS.index(t.kind) for t in things] == sorted(KINDS.index(t.kind) for t in things)
        assert all(thing.colour in COLOURS and 13 <= thing.size <= 15 and abs(thing.angle) <= 10 for thing in things)


def test_splits_share_no_scene():
    shares = {split: {share(scene(i, split).things) for i in range(60)} for split in ("train", "dev", "test")}
    assert shares["dev"] == {8} and shares["test"] == {9}
    assert not shares["train"] & (shares["dev"] | shares["test"])


def test_address_leads_back_to_the_scene_and_its_dials():
    rich = WorldSettings.of(base="rich")
    for dials in (WorldSettings.of(noise=9, most=4), rich, WorldSettings.of(base="rich", small=0, partners=[])):
        uri = address(5, "test", 2, dials)
        assert located(uri) == (scene(5, "test", 2, dials), dials)
    assert rich.turned() == {"base": "rich"} and len(address(5, "test", 2, rich)) < 50
    assert address(5, "test", 2, WorldSettings()) == "world:test/2/5"


@pytest.mark.parametrize(
    "uri", ["world:nonsense", "world:dev/a/1", "world:exam/0/1", "world:dev/0/1?%7B%22nois%22:1%7D"]
)
def test_a_wrong_address_is_the_users_mistake(uri):
    with pytest.raises(UserError):
        located(uri)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"nois": 1}, "did you mean 'noise'"),
        ({"noise": -1}, "world.noise"),
        ({"fewest": 4, "most": 3}, "fewest=4"),
        ({"smallest": 17, "largest": 17}, "smallest <= largest <= cell"),
        ({"partners": [{"trigger": "boat", "partner": "boat", "rate": 0.5}]}, "its own partner"),
        ({"partners": [{"trigger": "boat", "partner": k, "rate": 0.6} for k in ("car", "cup")]}, "1.2 in sum; at most"),
        ({"partners": [{"trigger": "boat", "partner": "car", "rate": 0.4}] * 2}, "given twice"),
        (
            {"partners": [{"trigger": "boat", "partner": "car", "rate": 1.4}]},
            r"partners.0.rate.*less than or equal to 1",
        ),
        ({"base": "ritch"}, "world.base"),
        ({"small": 0.5, "faint": 0.4, "occluded": 0.2}, "at most 1 in sum"),
        ({"without": ["boot"]}, "did you mean 'boat'"),
        ({"without": ["boat"], "most": 10}, "most=10 kinds are not left"),
        ({"backgrounds": ["sea"]}, r"world.backgrounds.0"),
        ({"cells": 2, "most": 3, "repeats": 0.1}, "do not fit 4 cells"),
        ({"partners": [{"trigger": "boat", "partner": "cat", "rate": 0.5}]}, "unknown kind"),
    ],
)
def test_wrong_dials_name_the_key(dials, message):
    with pytest.raises(UserError, match=message):
        WorldSettings.of(**dials)


def test_triggers_bring_their_partners():
    def share_with_partner(together):
        dials = WorldSettings(together=together)
        kinds = [scene(index, settings=dials).kinds for index in range(1500)]
        return sum("fish" in shown for shown in kinds if "boat" in shown) / sum("boat" in shown for shown in kinds)

    assert share_with_partner(0) < 0.4 < 0.5 < share_with_partner(0.5) < 0.62


def test_rich_scenes_keep_their_rules_too():
    dials = WorldSettings.of(base="rich", repeats=0.5)
    many = 0
    for index in range(300):
        shown = scene(index, settings=dials)
        counts = Counter(thing.kind for thing in shown.things)
        many += max(counts.values()) > 1
        assert max(counts.values()) <= 3 and sum(count > 1 for count in counts.values()) <= 1
        assert all(len({t.colour for t in shown.things if t.kind == kind}) == 1 for kind in counts)
        assert len({(thing.row, thing.col) for thing in shown.things}) == len(shown.things)
    assert 0.4 < many / 300 < 0.6
    assert {scene(i, settings=dials).background for i in range(300)} == set(dials.backgrounds)


def test_held_out_triggers_can_be_kept_away():
    rich = WorldSettings.of(base="rich")
    assert rich.held_out == ("house",)
    dials = WorldSettings.of(base="rich", without=rich.held_out)
    kinds = {kind for index in range(200) for kind in scene(index, settings=dials).kinds}
    assert kinds == set(KINDS) - {"house"}


def test_splits_share_no_rich_scene():
    dials = WorldSettings.of(base="rich")
    shares = {split: {share(scene(i, split, i, dials).things) for i in range(60)} for split in ("train", "dev", "test")}
    assert shares["dev"] == {8} and shares["test"] == {9} and shares["train"] <= set(range(8))
