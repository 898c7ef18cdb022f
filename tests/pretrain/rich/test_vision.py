"""Patches are the processor's, fast vision is the model's own, and slots hold what happens in them."""

import numpy as np
import pytest
import torch

from vlm_selfalign.data.world.clips.draw import draw_story
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.rich import vision
from vlm_selfalign.pretrain.rich.architecture import build, configuration
from vlm_selfalign.pretrain.rich.items import DIALS, SLOTS, item
from vlm_selfalign.pretrain.rich.words import words
from vlm_selfalign.pretrain.tokens import SPECIAL, processor
from vlm_selfalign.pretrain.vision import encode


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    maker = processor(SIDE, PATCH, MERGE, words())
    ids = dict(zip(SPECIAL, maker.tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    return build(configuration(ids, len(maker.tokenizer)), 0).eval(), maker


@torch.no_grad()
def test_pictures_are_seen_as_the_processor_and_the_model_see_them(untrained):
    model, maker = untrained
    items = [item("picture", index, "dev") for index in range(3)]
    inputs = maker.image_processor(images=[draw(one.of, DIALS) for one in items], return_tensors="pt")
    found = vision.shown(items)
    torch.testing.assert_close(found.flatten(0, 1), inputs["pixel_values"], atol=1e-5, rtol=1e-5)
    expected = model.model.visual(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
    torch.testing.assert_close(encode(model, found).flatten(0, 1), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_clips_are_seen_as_the_processor_and_the_model_see_them(untrained):
    model, maker = untrained
    items = [item("clip", index, "dev") for index in range(2)]
    inputs = maker.video_processor(videos=[draw_story(one.of).frames for one in items], return_tensors="pt")
    found = vision.shown(items)
    torch.testing.assert_close(found.flatten(0, 1), inputs["pixel_values_videos"], atol=1e-5, rtol=1e-5)
    expected = model.model.visual(inputs["pixel_values_videos"], inputs["video_grid_thw"]).pooler_output
    torch.testing.assert_close(encode(model, found).flatten(0, 1), expected, atol=1e-4, rtol=1e-4)


def test_every_event_of_a_clip_is_in_some_slot():
    missed, met = [], []
    for index in range(60):
        one = item("clip", index, "dev")
        truth = vision.cells([one])
        assert truth.kinds.shape == (SLOTS, vision.CELLS)
        for event in one.of.events:
            here = truth.kinds == vision.KINDS.index(event.kind)
            name = event.direction or {"appear": "appears", "vanish": "vanishes"}[event.action]
            missed.append(not bool((truth.happens[here] == vision.HAPPENS.index(name)).any()))
            if event.action == "meet":
                met.append(bool((truth.touches[here] >= 0).any()))
    # Who appears or vanishes just between two slots is seen by comparing them.
    assert np.mean(missed) < 0.25
    assert np.mean(met) > 0.95
    moved = [e.direction is not None for i in range(60) for e in item("clip", i, "dev").of.events]
    assert not any(miss and move for miss, move in zip(missed, moved, strict=True))


def test_cells_of_a_picture_are_its_objects():
    one = item("picture", 3, "dev")
    truth = vision.cells([one])
    names = list(vision.COLOURS)
    found = {
        (vision.KINDS[kind], names[colour])
        for kind, colour in zip(truth.kinds[0].tolist(), truth.colours[0].tolist(), strict=True)
        if kind >= 0
    }
    assert found == {(thing["kind"], thing["colour"]) for thing in one.truth["objects"]}
