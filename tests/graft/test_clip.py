"""The tiny open_clip model: what it learns from is true, it learns, and open_clip loads it by path."""

import json

import numpy as np
import open_clip
import pytest
import torch

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.graft.clip import SHIPPED, gate, learn
from vlm_selfalign.graft.clip.architecture import CONTEXT, WEIGHTS, build, save, tokenizer
from vlm_selfalign.graft.clip.gate import Subject, auc
from vlm_selfalign.graft.clip.shown import LABELS, PAIRS, Text, labels, shown, texts_of


@pytest.fixture(scope="module")
def album():
    return [shown(index, "dev", 0) for index in range(30)]


@pytest.fixture(scope="module")
def words(album):
    return tokenizer(learn.told(album, 0))


def test_a_text_holds_and_its_near_miss_does_not_say_the_same(album):
    for number in range(20):
        for index, one in enumerate(album):
            true, wrong = texts_of(one.there, rng("texts", number, index), 0.5)
            assert true.holds(one.there), (true, one.there)
            if not wrong.holds(one.there):
                assert wrong.text != true.text


def test_what_holds():
    there = {"boat": "red", "cup": "blue"}
    for claims, holds in [
        ((("boat", None),), True),
        ((("boat", "blue"),), False),
        (((None, "blue"),), True),
        (((None, "white"),), False),
        ((("boat", "red"), ("fish", None)), False),
    ]:
        assert Text("", claims).holds(there) is holds


def test_what_is_said_entails_its_parts():
    said = labels([("boat", "red"), ("cup", None), (None, None)])
    assert {LABELS[i] for i in said.nonzero()[0]} == {("boat", "red"), ("boat", None), (None, "red"), ("cup", None)}


def test_patches_show_what_is_there(album):
    for one in album:
        seen = {PAIRS[index] for index in one.cover if index >= 0}
        assert seen <= set(one.there.items())
        assert len(seen) >= len(one.there) - 1  # one may be hidden behind another
        for kind, colour in seen:
            ways = np.argwhere(one.cover.reshape(8, 8) == PAIRS.index((kind, colour)))
            block = np.concatenate([one.pixels[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].reshape(-1, 3) for r, c in ways])
            assert block.std(0).max() > 4, (kind, colour)


def test_texts_cut_to_their_length_have_the_features_of_padded_ones(words):
    model = build(0).eval()
    texts = ["a red boat", "There is a fish. I see a blue cup."]
    with torch.no_grad():
        short = learn.encode_texts(model, learn.ids(words, texts))
        full = words(texts, max_length=CONTEXT, padding="max_length", return_tensors="pt")["input_ids"]
        torch.testing.assert_close(short, model.encode_text(full, normalize=True), atol=1e-6, rtol=0)
    assert model.text.attn_mask.shape == (CONTEXT, CONTEXT)


def test_it_is_loaded_by_path_and_gives_what_was_saved(album, words, tmp_path):
    model = build(0).eval()
    save(model, words, tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size < 2_000_000
    subject = Subject(tmp_path)
    assert open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["a boat"]).shape == (1, CONTEXT)
    with torch.no_grad():
        wanted = model.half().float().encode_image(learn.pixels(album[:3]), normalize=True)
    torch.testing.assert_close(subject.pictures(album[:3]), wanted, atol=1e-4, rtol=0)


def test_it_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(learn, "BATCH", 4)
    records = []
    assert learn.teach(tmp_path, 0, records.append, steps=25, again=0, pictures=12)
    assert learn.teach(tmp_path, 0, records.append, steps=25, again=0, pictures=12)
    assert [record["step"] for record in records] == [24]


def test_auc_is_how_often_a_pair_is_in_order():
    assert auc(torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0])) == 0.875


@pytest.mark.skipif(not (SHIPPED / WEIGHTS).is_file(), reason="this checkout has no tiny open_clip model")
def test_what_ships_is_what_its_card_says():
    card = json.loads((SHIPPED / "CARD.json").read_text())
    assert card["sha256"] == gate.checksum(SHIPPED)
    assert card["missed"] == gate.failed(card["figures"])
    figures = gate.measure(SHIPPED, 24)
    for name, least in gate.GATE.items():
        assert figures[name] >= least - 0.1, figures
