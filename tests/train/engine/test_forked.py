"""Hybrids of linear and full attention: each node of a tree begins with its parent's states."""

import pytest
import torch
from transformers import AutoTokenizer, Lfm2Config, Lfm2ForCausalLM, Qwen3NextConfig, Qwen3NextForCausalLM

from train.engine.made import GROUP, Bench, asked, both
from vlm_selfalign.config import LoraSettings, ModelSettings
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.train.engine import forked
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.policy import learner
from vlm_selfalign.train.texts import Texts

LIMIT = 1e-5


def qwen3_next(**given):
    config = Qwen3NextConfig(
        **given,
        num_hidden_layers=3,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=0,
        mlp_only_layers=[0, 1, 2],
    )
    return Qwen3NextForCausalLM(config)


def lfm2(**given):
    config = Lfm2Config(**given, num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"])
    return Lfm2ForCausalLM(config)


FAMILIES = {"qwen3_next": qwen3_next, "lfm2": lfm2}


def hybrid(family, words_of, folder, lora):
    words = AutoTokenizer.from_pretrained(words_of)
    torch.manual_seed(0)
    model = FAMILIES[family](
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
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
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_plain_forward(family, lora, llama, tmp_path):
    found = hybrid(family, llama, tmp_path, lora)
    error, gradient = both(found, several(found))
    assert found.engine.backend == "forked" and found.engine.forwards == 1
    assert error <= LIMIT and gradient <= LIMIT


def test_checkpointing_drops_no_state(llama, tmp_path):
    found = hybrid("qwen3_next", llama, tmp_path, True)
    found.learner.model.gradient_checkpointing_enable()
    error, gradient = both(found, several(found))
    assert found.engine.backend == "forked" and error <= LIMIT and gradient <= LIMIT
    assert found.learner.model.is_activation_checkpointing


@pytest.mark.parametrize("mistake", ["not forked", "begun anew"])
def test_states_of_another_branch_show(mistake, llama, tmp_path, monkeypatch):
    found = hybrid("qwen3_next", llama, tmp_path, True)
    text = found.learner.model.config.get_text_config()
    wrong = {"not forked": lambda cache: cache, "begun anew": lambda cache: forked._empty(text)}
    monkeypatch.setattr(forked, "_fork", wrong[mistake])
    error, _ = both(found, several(found))
    assert error > 100 * LIMIT
