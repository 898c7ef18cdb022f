"""What is known of each kind that an exchange names, and that the readers' losses are of the right tokens."""

import random

import pytest
import torch
from torch.nn import functional as F

from vlm_selfalign.data.world.settings import COLOURS, KINDS
from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.forward import hidden
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.rich.architecture import build, configuration
from vlm_selfalign.pretrain.rich.asides import (
    COLOUR,
    COLUMN,
    KNOWN,
    LAST,
    LEFT_LAYER,
    NAMED,
    NAMED_LAYER,
    PRESENT,
    ROW,
    UNASKED,
    WAY,
    WHEN,
    Asides,
    known,
)
from vlm_selfalign.pretrain.rich.items import SLOTS, item
from vlm_selfalign.pretrain.rich.tasks import branches
from vlm_selfalign.pretrain.rich.words import DIRECTIONS, words
from vlm_selfalign.pretrain.tasks import Branch
from vlm_selfalign.pretrain.tokens import SPECIAL, processor


@pytest.fixture(scope="module")
def parts():
    tokenizer = processor(SIDE, PATCH, MERGE, words()).tokenizer
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    model = build(configuration(ids, len(tokenizer)), 0).eval()
    packer = Packer(tokenizer)
    return model, packer, tokenizer, Asides(model, packer, tokenizer)


@pytest.mark.parametrize("medium", ["picture", "text", "clip"])
def test_what_is_known_is_what_questions_answer(medium):
    """Every position, way and existence that the world's own questions tell stands in the table."""
    chance, told = random.Random(0), set()
    for number in range(40):
        one = item(medium, number, "train")
        table = known(one)
        kinds = {thing["kind"] for thing in one.truth["objects"]}
        assert {KINDS[k] for k in range(len(KINDS)) if table[k, PRESENT]} == kinds
        if "events" in one.truth:
            for question in one.asked("direction", chance):
                assert DIRECTIONS[table[KINDS.index(question.kind), WAY]] == question.answer
                told.add("way")
            acts = [event["kind"] for event in one.truth["events"]]
            for kind in kinds:
                assert table[KINDS.index(kind), WHEN] == (min(acts.index(kind), LAST) if kind in acts else LAST + 1)
                told.add("when")
            assert (table[:, [ROW, COLUMN]] == UNASKED).all()
        else:
            for question in one.asked("position", chance):
                row, column = table[KINDS.index(question.kind), [ROW, COLUMN]].tolist()
                assert question.answer == f"{('top', 'bottom')[row // 2]} {('left', 'right')[column // 2]}"
                told.add("place")
            assert (table[:, [WAY, WHEN]] == UNASKED).all()
    assert told == (
        {"place"} if medium == "picture" else {"way", "when"} if medium == "clip" else {"place", "way", "when"}
    )


def test_only_exchanges_that_see_the_item_are_read(parts):
    """Closed form: the loss of one question is the readers' cross-entropy at its kind's token, and nowhere else."""
    model, packer, tokenizer, asides = parts
    one = item("text", 0, "train")
    kind = one.truth["objects"][0]["kind"]
    question = f"Is there a {kind} in the scene?"
    blind = Branch(question, "Yes", sees=False)
    packed = packer.pack([[Branch(question, "Yes"), blind]], ["Look well."], [one.head])
    with torch.no_grad():
        states = []
        handle = model.model.language_model.layers[NAMED_LAYER].register_forward_hook(
            lambda m, g, out: states.append(out)
        )
        hidden(model, packer, packed, None)
        handle.remove()
        places, named, left = asides(packed, [one])
        token = tokenizer.convert_tokens_to_ids("Ġ" + kind)
        (at,) = ((packed.exchange_BT[0] > 0) & (packed.ids_BT[0] == token)).nonzero()[:, 0]
        assert (packed.ids_BT[0] == token).sum() >= 3  # in the text, and in both exchanges
        state = F.layer_norm(states[0][0, at], (states[0].shape[-1],))
        read, goals = asides.named(state).split(KNOWN), known(one)[KINDS.index(kind)]
        asked = [(logits, goal) for logits, goal in zip(read, goals, strict=True) if goal != UNASKED]
        wanted = sum(F.cross_entropy(logits, goal) for logits, goal in asked)
        assert list(COLOURS)[goals[COLOUR]] == one.truth["objects"][0]["colour"]
    torch.testing.assert_close(named, NAMED * wanted)
    assert places == 0 and left == 0


def test_an_exchange_that_names_nothing_costs_nothing(parts):
    model, packer, _, asides = parts
    one = item("picture", 0, "train")
    packed = packer.pack([[Branch("How many objects are in the image?", "3")]], heads=[one.head])
    with torch.no_grad():
        hidden(model, packer, packed, torch.zeros(1, 16, 128))
        places, named, left = asides(packed, [one])
    assert named == 0 and left == 0 and places > 0


def test_places_of_a_clip_are_read_slot_by_slot(parts):
    """Told each token's place outright, the reader has nothing left to learn: its loss can fall to nothing."""
    model, packer, _, asides = parts
    one = item("clip", 0, "train")
    packed = packer.pack([branches("exists", one, random.Random(0), 1)], heads=[one.head])
    hidden(model, packer, packed, torch.zeros(1, 16 * SLOTS, 128))
    optimizer = torch.optim.Adam(asides.place.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        loss, _, _ = asides(packed, [one])
        loss.backward(inputs=list(asides.place.parameters()), retain_graph=True)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_what_is_left_to_tell_is_what_was_not_told(parts, monkeypatch):
    """Closed form: at each token of a description the kinds that are there and were not named up to it."""
    model, packer, tokenizer, asides = parts
    one = next(
        one for one in (item("picture", n, "train") for n in range(20)) if len(known(one)[:, PRESENT].nonzero()) > 2
    )
    first, *others = dict.fromkeys(thing["kind"] for thing in one.truth["objects"])
    text = f"There is a {first} and a thing that is not to be seen. It is large and it looks red."
    packed = packer.pack([[Branch("Describe the image.", text), Branch("Is there a boat?", "Yes")]], heads=[one.head])
    asked = []

    def read(logits, goals):
        asked.append(goals)
        return logits.sum() * 0

    monkeypatch.setattr(F, "binary_cross_entropy_with_logits", read)
    with torch.no_grad():
        hidden(model, packer, packed, torch.zeros(1, 16, 128))
        asides(packed, [one])
    (goals,) = asked
    names = [{KINDS[k] for k in row.nonzero()[:, 0].tolist()} for row in goals]
    before = packer.ids(text).index(tokenizer.convert_tokens_to_ids("Ġ" + first)) + 1  # the token that asks comes first
    assert names[:before] == [{first, *others}] * before
    assert names[before:] == [set(others)] * (len(names) - before) and len(names) > before + 5
    assert LEFT_LAYER > NAMED_LAYER
