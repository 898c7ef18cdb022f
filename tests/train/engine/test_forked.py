"""Hybrids of linear and full attention: each node of a tree begins with its parent's states."""

import pytest
import torch

from train.engine.made import GROUP, HYBRIDS, Bench, asked, both, hybrid
from vlm_selfalign.config import LoraSettings, ModelSettings
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.train.engine import forked
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.policy import learner
from vlm_selfalign.train.texts import Texts

LIMIT = 1e-5


def learning(family, words_of, folder, lora):
    hybrid(family, words_of, folder)
    settings = ModelSettings(device="cpu", lora=LoraSettings(r=4, targets="language") if lora else None)
    found = learner(str(folder), str(folder), settings, (), needs_reference=False)
    with torch.no_grad():
        for p in found.model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))
    maker = Texts(Encoder.of(found.loaded))
    return Bench(found, maker, Engine(Vision()), Planner(found.model, maker))


def several(found):
    """A group of five, an answer of one token among them, and a pair of another prompt."""
    return found.texts(asked("describe the red ball"), GROUP) + found.texts(asked("what do you see ?"))


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", HYBRIDS)
def test_equals_the_plain_forward(family, lora, llama, tmp_path):
    found = learning(family, llama, tmp_path, lora)
    error, gradient = both(found, several(found))
    assert found.engine.backend == "forked" and found.engine.forwards == 1
    assert error <= LIMIT and gradient <= LIMIT


def test_checkpointing_drops_no_state(llama, tmp_path):
    found = learning("qwen3_next", llama, tmp_path, True)
    found.learner.model.gradient_checkpointing_enable()
    error, gradient = both(found, several(found))
    assert found.engine.backend == "forked" and error <= LIMIT and gradient <= LIMIT
    assert found.learner.model.is_activation_checkpointing


@pytest.mark.parametrize("mistake", ["not forked", "begun anew"])
def test_states_of_another_branch_show(mistake, llama, tmp_path, monkeypatch):
    found = learning("qwen3_next", llama, tmp_path, True)
    text = found.learner.model.config.get_text_config()
    wrong = {"not forked": lambda cache: cache, "begun anew": lambda cache: forked._empty(text)}
    monkeypatch.setattr(forked, "_fork", wrong[mistake])
    error, _ = both(found, several(found))
    assert error > 100 * LIMIT
