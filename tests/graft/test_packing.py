"""Many exchanges behind one picture are as many chats, each with its own picture."""

import pytest
import torch
from PIL import Image

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.graft.language import dials_of
from vlm_selfalign.graft.lessons import Exchange, exchanges
from vlm_selfalign.graft.packing import Packer, hidden, packed_loss
from vlm_selfalign.graft.text_only import TextAnswer
from vlm_selfalign.graft.tower import Album, encode, pixel_values
from vlm_selfalign.models import grafted

KNOWN = [TextAnswer("What is the capital of Italy?", "The capital of Italy is Rome.")]


@pytest.fixture(scope="module")
def taught(smollm2_folder):
    """Model, processor, album and visual tokens; the tower has seen nothing."""
    torch.manual_seed(0)
    model = grafted.joined(smollm2_folder, None, torch.float32)
    album = Album.drawn("dev", 2)
    with torch.no_grad():
        features = encode(model, pixel_values(album.pixels_NHW3))
    return model, grafted.processor(smollm2_folder), album, features


def behind_the_picture(ids, packer) -> int:
    """Where the question begins: after the visual tokens and the one that closes them."""
    return ids.tolist().index(packer.image) + grafted.TOKENS + 1


def as_a_chat(exchange: Exchange, processor, picture):
    shown = [{"type": "image"}] if exchange.sees else []
    asked = {"role": "user", "content": [*shown, {"type": "text", "text": exchange.question}]}
    text = processor.apply_chat_template([asked, {"role": "assistant", "content": exchange.answer}])
    if not exchange.sees:
        return processor.tokenizer(text, return_tensors="pt")
    return processor(text=text, images=[picture], return_tensors="pt")


@torch.no_grad()
def test_packed_logits_are_those_of_one_chat_each(taught):
    model, processor, album, features = taught
    packer = Packer(processor.tokenizer)
    rows = [exchanges(one, dials_of(i), rng("packing", i), 0.0)[:3] for i, one in enumerate(album.scenes)]
    rows[1].append(Exchange(KNOWN[0].prompt, KNOWN[0].answer, sees=False, is_text=True))
    packed = packer.pack(rows)
    states = hidden(model, packer, packed, features)
    for b, row in enumerate(rows):
        picture = Image.fromarray(album.pixels_NHW3[b])
        at = behind_the_picture(packed.ids_BT[b], packer)
        for exchange in row:
            chat = as_a_chat(exchange, processor, picture)
            ids = chat["input_ids"][0, :-1]  # the template's line break after the turn is not learnt
            start = behind_the_picture(ids, packer) if exchange.sees else 0
            length = len(ids) - start
            here = slice(at, at + length)
            assert torch.equal(packed.ids_BT[b, here], ids[start:])
            alone = model(**chat).logits[0, start : start + length]
            torch.testing.assert_close(model.lm_head(states[b, here]), alone, atol=2e-4, rtol=0)
            at += length


def test_only_answers_are_learnt_and_what_tells_weighs_more(taught):
    _, processor, _, _ = taught
    packer = Packer(processor.tokenizer)
    packed = packer.pack([[Exchange("Do you see a boat?", "Yes, there is a red boat.")]])
    learnt = packed.targets_BT[0] != -100
    said = [processor.tokenizer.decode([token]) for token in packed.targets_BT[0][learnt].tolist()]
    assert "".join(said) == "Yes, there is a red boat.<|im_end|>"
    weights = dict(zip(said, packed.weights_BT[0][learnt].tolist(), strict=True))
    assert (weights["Yes"], weights[" red"], weights[" boat"]) == (4.0, 3.0, 1.0)
    assert torch.equal(packed.ids_BT[0, 1:][learnt[:-1]], packed.targets_BT[0][learnt])


def test_the_loss_is_that_of_its_tokens(taught):
    model, processor, _, features = taught
    packer = Packer(processor.tokenizer)
    packed = packer.pack([[Exchange("Is it red?", "Yes.")]])
    with torch.no_grad():
        logits = model.lm_head(hidden(model, packer, packed, features[:1]))[0].log_softmax(-1)
        learnt = packed.targets_BT[0] != -100
        each = -logits[learnt].gather(1, packed.targets_BT[0][learnt][:, None])[:, 0]
        wanted = (each * packed.weights_BT[0][learnt]).sum() / packed.weights_BT[0][learnt].sum()
        assert packed_loss(model, packer, packed, features[:1]).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_colour_in_a_description_weighs_what_the_leg_says(taught):
    _, processor, _, _ = taught
    packer = Packer(processor.tokenizer)
    row = [Exchange("Describe the image.", "There is a boat in red.", is_text=True), Exchange("What colour?", "Red.")]
    plain, heavy = packer.pack([row]), packer.pack([row], 3.0)
    changed = (plain.weights_BT != heavy.weights_BT)[0]
    assert processor.tokenizer.decode(heavy.targets_BT[0][changed]) == " red"
    assert heavy.weights_BT[0][changed].tolist() == [3.0] and plain.weights_BT[0][changed].tolist() == [1.0]
