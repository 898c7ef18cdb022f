"""Packed rows are the same chats, only cheaper."""

import random

import pytest
import torch

from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain import vision
from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE, build, configuration
from vlm_selfalign.pretrain.curriculum import CURRICULUM, Phase, exchanges
from vlm_selfalign.pretrain.forward import hidden, packed_loss
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.tokens import SPECIAL, processor

DIALS = WorldSettings()


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    maker = processor(SIDE, PATCH, MERGE)
    ids = dict(zip(SPECIAL, maker.tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    return build(configuration(ids, len(maker.tokenizer)), 0).eval(), maker


@torch.no_grad()
def test_fast_vision_is_the_models_own(untrained):
    model, maker = untrained
    scenes = [scene(index) for index in range(3)]
    inputs = maker.image_processor(images=[draw(one) for one in scenes], return_tensors="pt")
    expected = model.model.visual(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
    found = vision.encode(model, vision.pixels(scenes, maker, DIALS))
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_packed_row_is_the_same_as_its_chats(untrained):
    model, maker = untrained
    shown = scene(1)
    everything = Phase("all", {"existence": 2, "colour": 1, "count": 1, "describe": 2, "blind": 1, "followup": 3})
    branches = exchanges(everything, shown, random.Random(0), DIALS)
    assert {branch.sees for branch in branches} == {True, False}
    packer = Packer(maker.tokenizer)
    system = "Be brief."
    packed = packer.pack([branches[:2], branches], ["", system])
    features = vision.encode(model, vision.pixels([shown, shown], maker, DIALS))
    logits = model.lm_head(hidden(model, packer, packed, features))[1]
    told = {"role": "system", "content": system}
    at = prefix = len(packer.prefix) + 1 + len(packer.ids(system))
    for branch in branches:
        picture = [{"type": "image"}] if branch.sees else []
        turns = [*branch.before, (branch.question, branch.answer)]
        chat = [told] * branch.sees
        for number, (question, answer) in enumerate(turns):
            text = {"type": "text", "text": question}
            chat.append({"role": "user", "content": [*(picture if number == 0 else []), text]})
            chat.append({"role": "assistant", "content": answer})
        chat = maker.apply_chat_template(chat)
        inputs = maker(text=[chat], images=[draw(shown)] if branch.sees else None, return_tensors="pt")
        own = inputs["input_ids"].shape[1] - (prefix if branch.sees else 0)
        assert packed.ids_BT[1, at : at + own].tolist() == inputs["input_ids"][0, -own:].tolist()
        torch.testing.assert_close(logits[at : at + own], model(**inputs).logits[0, -own:], atol=1e-4, rtol=1e-4)
        at += own


def test_only_answers_are_learnt(untrained):
    _, maker = untrained
    packer = Packer(maker.tokenizer)
    branches = exchanges(CURRICULUM[-1], scene(2), random.Random(3), DIALS)
    packed = packer.pack([branches])
    learnt = packed.targets_BT[0][packed.targets_BT[0] >= 0].tolist()
    text = maker.tokenizer.decode(learnt)
    assert text == "".join(branch.answer + "<|im_end|>" for branch in branches)
    ends = packed.targets_BT[0] == packer.end
    assert packed.weights_BT[0][ends].tolist() == pytest.approx([branch.end_weight for branch in branches])


def test_a_few_steps_lower_the_loss(untrained):
    _, maker = untrained
    ids = dict(zip(SPECIAL, maker.tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    model = build(configuration(ids, len(maker.tokenizer)), 1)
    packer = Packer(maker.tokenizer)
    shown = [scene(index) for index in range(4)]
    packed = packer.pack([exchanges(CURRICULUM[0], one, random.Random(0), DIALS) for one in shown])
    features = vision.encode(model, vision.pixels(shown, maker, DIALS)).detach()
    optimizer = torch.optim.AdamW(model.model.language_model.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        loss = packed_loss(model, packer, packed, features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
