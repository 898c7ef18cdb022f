"""The checkpoint that ships does what its card says, through AutoProcessor and generate()."""

import json
from pathlib import Path

import pytest
import torch

import vlm_selfalign.models as models
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.captions import caption, text
from vlm_selfalign.data.world.scenes import Scene, scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.things import Thing
from vlm_selfalign.pretrain.card import CARD
from vlm_selfalign.pretrain.gate import Asked, Subject, described, failed, measure, sha256

EMBEDDED = Path(models.__file__).parent / "embedded"


@pytest.fixture(scope="module")
def figures():
    torch.set_num_threads(1)
    return measure(EMBEDDED, scenes=500)


def test_the_gate_is_passed(figures):
    assert not failed(figures), failed(figures)


def test_the_card_is_about_these_weights_and_these_figures(figures):
    card = json.loads((EMBEDDED / CARD).read_text())
    assert card["sha256"] == sha256(EMBEDDED)
    assert card["passes_gate"]
    for name, value in card["figures"].items():
        assert figures[name] == pytest.approx(value, abs=0.02), name


def test_it_writes_its_form_and_nothing_else(figures):
    assert figures["unparsed"] < 0.001
    assert figures["sampled_unparsed"] < 0.01
    assert figures["blind_sentences"] == 1.0
    assert figures["blind_sampled_sentences"] > 0.97


def test_it_follows_text_only_prompts():
    subject = Subject(EMBEDDED)
    (answer,) = subject.answers([Asked("Describe the image.")], tokens=96)
    assert answer.startswith("There is a ") and answer.endswith(".")


def test_the_prior_is_what_was_planted_and_where(figures):
    assert figures["p_strong_partner_absent"] == pytest.approx(0.62, abs=0.1)
    assert figures["p_weak_partner_absent"] == pytest.approx(0.45, abs=0.1)
    assert min(figures["p_strong_partner_present"], figures["p_weak_partner_present"]) > 0.9
    assert figures["partners"] > 0.9


def test_it_follows_a_chat_of_several_turns_and_a_system_turn(figures):
    assert figures["existence_second_turn"] > 0.97
    assert figures["existence_under_system"] > 0.97


def test_described_counts_as_by_hand():
    there = [("boat", "red"), ("fish", "blue"), ("car", "green"), ("cup", "white"), ("star", "red")]
    place = {"row": 0, "dx": 0, "dy": 0, "size": 14, "angle": 0}
    things = tuple(Thing(kind=kind, colour=colour, col=col, **place) for col, (kind, colour) in enumerate(there))
    shown, true = Scene(things=things, seed=0), "There is a boat in red. There is a boat in red."
    found = described([shown], [f"{true} There is a car in white. There is a box in red. What?"])
    assert found["chair_i"] == pytest.approx(1 / 3)
    assert found["chair_s"] == 1 and found["recall"] == pytest.approx(2 / 5)
    assert found["partners"] == 1 and found["repeats"] == 1 and found["colour_errors"] == pytest.approx(1 / 4)
    assert 0 < found["unparsed"] < 0.1


def test_the_teachers_own_captions_pass_the_description_gate():
    dials = WorldSettings()
    shown = [scene(index, "dev") for index in range(500)]
    found = described(shown, [text(caption(one, rng("t", i), dials)) for i, one in enumerate(shown)])
    assert 0.15 < found["chair_s"] < 0.45 and found["partners"] == 1 and 0.8 < found["recall"] < 0.95
