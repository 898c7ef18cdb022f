"""The shipped checkpoint was trained on this world: its default scenes, pixels, texts and questions never change."""

import hashlib

import numpy as np
import pytest

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world import draw as drawing
from vlm_selfalign.data.world import picture
from vlm_selfalign.data.world.captions import caption, text
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.language import FORMS
from vlm_selfalign.data.world.questions import absent, colours, count, existence
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import WorldSettings

CUP = {"kind": "cup", "colour": "red", "row": 0, "col": 3}
FISH = {"kind": "fish", "colour": "blue", "row": 3, "col": 0}

DIALS = {
    "default": {},
    "turned": {"noise": 9, "most": 4, "rotation": 22, "smallest": 10.5, "together": 0.8, "omission": 0},
    "clean": {"noise": 0, "cells": 3, "cell": 20, "background": 200, "partners": []},
}


def shown(split, seed, settings):
    return [scene(index, split, seed, settings) for index in range(25)]


def hashed(things):
    return hashlib.blake2b(repr(things).encode(), digest_size=8).hexdigest()


def places(scenes):
    return [(s.seed, [(t.kind, t.colour, t.row, t.col, t.dx, t.dy, t.size, t.angle) for t in s.things]) for s in scenes]


def pixels(scenes, settings):
    return b"".join(np.asarray(draw(s, settings)).tobytes() for s in scenes)


def captions(scenes, settings):
    said = [caption(s, rng("golden", i), settings) for i, s in enumerate(scenes)]
    return [(text(mentions), [m.true for m in mentions]) for mentions in said]


def questions(scenes):
    found = []
    for index, one in enumerate(scenes):
        for negatives in ("random", "popular", "adversarial"):
            chance = rng("golden", negatives, index)
            found += [(q.text, q.answer, q.kind) for q in existence(one.objects, negatives, 3, chance)]
            found.append(absent(one.kinds, negatives, chance))
        found += [(q.text, q.answer, q.kind) for q in [*colours(one.objects), count(one.objects)]]
    return found


@pytest.mark.parametrize(
    ("dials", "split", "seed", "expected"),
    [
        ("default", "train", 0, ["08e3ad128ae348ca", "843a2b4f0be94409", "cf5c70bda40b19ec", "99aaacb03d9163e1"]),
        ("default", "dev", 5, ["0e12f71dbbac7480", "f2377d1b55c892dc", "3863f645e2b66444", "a26dfed410513f7b"]),
        ("default", "test", 123456, ["621dd90c5651bdf2", "78b8eb5733b0c3a2", "23b2ca2061382976", "2680d07c18fc70b0"]),
        ("turned", "train", 1, ["1e9482d29cc84a67", "727369b04f6fd22f", "6cfa222d0718e02e", "383a7203c596f7db"]),
        ("clean", "dev", 0, ["eb4bc22e599103aa", "6065b22db9275612", "674ea18fca218a2e", "9f8d4e05068c53b3"]),
    ],
)
def test_scenes_pixels_texts_and_questions_are_what_they_were(dials, split, seed, expected):
    settings = WorldSettings.of(**DIALS[dials])
    scenes = shown(split, seed, settings)
    found = [places(scenes), pixels(scenes, settings), captions(scenes, settings), questions(scenes)]
    assert [hashed(part) for part in found] == expected


def test_forms_and_addresses_are_what_they_were():
    said = [(name, form.write(CUP, FISH), form.about_two, form.denies) for name, form in FORMS.items()]
    assert len(said) == 40 and hashed(said) == "e5f8050cf8841a90"
    assert picture(3, "dev", 1).content_hash == "739b621e4c60a1e7d73d11241c066137"
    assert drawing.DRAWING == 1
