"""Packed rows about pictures, clips and texts are the same chats, only cheaper."""

import random

import pytest
import torch

from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.forward import hidden
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.rich import vision
from vlm_selfalign.pretrain.rich.architecture import build, configuration
from vlm_selfalign.pretrain.rich.curriculum import CURRICULUM, exchanges
from vlm_selfalign.pretrain.rich.items import item
from vlm_selfalign.pretrain.rich.subject import Asked, Subject
from vlm_selfalign.pretrain.rich.words import words
from vlm_selfalign.pretrain.tokens import SPECIAL, processor
from vlm_selfalign.pretrain.vision import encode


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    maker = processor(SIDE, PATCH, MERGE, words())
    ids = dict(zip(SPECIAL, maker.tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    model = build(configuration(ids, len(maker.tokenizer)), 0).eval()
    model.save_pretrained(folder)
    maker.save_pretrained(folder)
    return model, maker, Subject(folder)


@torch.no_grad()
@pytest.mark.parametrize("medium", ["picture", "clip", "text"])
def test_a_packed_row_is_the_same_as_its_chats(untrained, medium):
    model, maker, subject = untrained
    one = item(medium, 1, "dev")
    packer = Packer(maker.tokenizer)
    row = exchanges(CURRICULUM[-1], one, random.Random(4))
    packed = packer.pack([row, row[:2]], ["Be brief.", ""], [one.head, one.head])
    features = None
    if medium != "text":
        features = encode(model, vision.shown([one, one])).reshape(2, -1, model.config.text_config.hidden_size)
    logits = model.lm_head(hidden(model, packer, packed, features))[0]
    learnt = (packed.targets_BT[0] >= 0).nonzero().flatten().tolist()
    for branch in row:
        answer = maker.tokenizer.encode(branch.answer)
        places, learnt = learnt[: len(answer) + 1], learnt[len(answer) + 1 :]
        shown = one if branch.sees else None
        system = "Be brief." if branch.sees else ""
        asked = Asked(branch.question, shown, opening=branch.answer, before=branch.before, system=system)
        own = subject.model(**subject.inputs([asked])).logits[0, -len(answer) - 1 :]
        torch.testing.assert_close(logits[places], own, atol=2e-4, rtol=2e-4)
    assert not learnt
