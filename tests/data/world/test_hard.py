"""Objects that are hard to see: as many as the dials say, and as hard as the truth says."""

import itertools

import numpy as np
import pytest

from vlm_selfalign.data.world.backgrounds import backdrop, contrast, mean_colour
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.scenes import Scene, scene
from vlm_selfalign.data.world.settings import COLOURS, WorldSettings
from vlm_selfalign.data.world.things import Thing
from vlm_selfalign.data.world.truth import covered, truth

CLEAN = {"noise": 0}
ALL_BACKGROUNDS = ("grey", "sand", "sky", "dusk", "meadow", "stripes", "checks")


def shares(count=400, **dials):
    settings = WorldSettings.of(**dials)
    objects = [o for i in range(count) for o in truth(scene(i, settings=settings), settings)["objects"]]
    return {why: sum(why in o["hard"] for o in objects) / len(objects) for why in ("small", "faint", "occluded")}


def test_nothing_is_hard_unless_asked_for():
    assert shares(200) == {"small": 0, "faint": 0, "occluded": 0}
    assert shares(200, backgrounds=ALL_BACKGROUNDS) == {"small": 0, "faint": 0, "occluded": 0}


@pytest.mark.parametrize("dial", ["small", "faint"])
def test_a_dial_gives_its_share_of_its_own_kind_only(dial):
    found = shares(**{dial: 0.25})
    assert abs(found.pop(dial) - 0.25) < 0.04
    assert set(found.values()) == {0}


def test_covered_objects_come_too_but_fewer_where_there_is_no_room():
    found = shares(occluded=0.25)
    assert 0.1 < found["occluded"] < 0.25 and found["small"] == found["faint"] == 0


def test_hidden_is_the_share_of_pixels_that_another_object_changed():
    settings = WorldSettings.of(occluded=0.5, **CLEAN)
    checked = 0
    for index in range(100):
        shown = scene(index, settings=settings)
        for number, item in enumerate(truth(shown, settings)["objects"]):
            if item["hidden"] == 0:
                continue
            alone = Scene(things=(shown.things[number],), seed=0)
            both, one = (np.asarray(draw(s, settings)).astype(int) for s in (shown, alone))
            mask = covered(shown.things[number], settings)
            changed = (np.abs(both - one).sum(2) > 30) & mask
            # Soft edges and equal colours make the two differ a little.
            other = {thing.colour for thing in shown.things if thing is not shown.things[number]}
            if item["colour"] not in other:
                assert abs(changed.sum() / mask.sum() - item["hidden"]) < 0.2
                checked += 1
    assert checked > 20


@pytest.mark.parametrize("background", ALL_BACKGROUNDS)
def test_contrast_is_what_the_pixels_show(background):
    settings = WorldSettings(noise=0)
    empty = np.asarray(backdrop(background, settings.side, settings.background)).astype(float)
    for colour, opacity in itertools.product(COLOURS, (0.1, 0.4, 1.0)):
        box = Thing(kind="box", colour=colour, row=1, col=2, dx=0, dy=0, size=15, angle=0, opacity=opacity)
        shown = Scene(things=(box,), seed=0, background=background)
        pixels = np.asarray(draw(shown, settings)).astype(float)
        plain = (slice(26, 30), slice(34, 38))  # below the box's band and left of its ribbon
        (item,) = truth(shown, settings)["objects"]
        found = np.linalg.norm((pixels - empty)[plain].mean((0, 1))) / (255 * 3**0.5)
        assert found == pytest.approx(item["contrast"], abs=0.04)
        assert ("faint" in item["hard"]) == (item["contrast"] < 0.15)


def test_who_covers_another_stays_in_its_part_of_the_picture():
    for cells in (3, 4):
        settings = WorldSettings.of(occluded=0.5, cells=cells, most=4)
        middles = settings.cells / 2
        for index in range(300):
            for thing in scene(index, settings=settings).things:
                for cell, push, shift in ((thing.col, thing.push_x, thing.dx), (thing.row, thing.push_y, thing.dy)):
                    at = cell + 0.5 + push / settings.cell
                    before, now = (np.sign(round(value - middles, 6)) for value in (cell + 0.5, at))
                    assert before == now or (before == 0 and abs(at - middles) < 0.5), (thing, shift)


def test_no_background_is_near_a_colour():
    for name in ALL_BACKGROUNDS:
        for colour in COLOURS.values():
            assert contrast(colour, mean_colour(name, 64, 128)) > 0.15
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(1)


def test_a_covering_object_is_drawn_last():
    under = Thing(kind="ball", colour="red", row=1, col=1, dx=0, dy=0, size=14, angle=0, layer=1)
    over = under.model_copy(update={"kind": "box", "colour": "white", "col": 2, "push_x": -16, "layer": 0})
    settings = WorldSettings(noise=0)
    known = truth(Scene(things=(under, over), seed=0), settings)
    assert known["order"] == [1, 0]
    assert known["objects"][0]["hidden"] == 0 and known["objects"][1]["hidden"] > 0.7
    assert np.asarray(draw(Scene(things=(under, over), seed=0), settings))[20, 24].tolist() == list(COLOURS["red"])
