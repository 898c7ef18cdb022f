import pytest
import torch
from torch import nn

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.train import policy
from vlm_selfalign.train.policy import learner, silence_dropout

CPU = ModelSettings(device="cpu")
LORA = ModelSettings(device="cpu", lora={"r": 2, "alpha": 4})
IDS = torch.arange(5, 15)[None]


def trained(found):
    return {name for name, p in found.model.named_parameters() if p.requires_grad}


def spoil(found):
    with torch.no_grad():
        for p in found.model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p))


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_vision_and_embeddings_are_frozen(qwen):
    found = learner(str(qwen), str(qwen), CPU, ("vision", "embeddings"))
    assert trained(found) and not [n for n in trained(found) if "visual" in n or "embed_tokens" in n]
    everything = learner(str(qwen), str(qwen), CPU, ())
    assert [n for n in trained(everything) if "visual" in n]
    with pytest.raises(UserError, match="no part of a model is called 'eyes'"):
        learner(str(qwen), str(qwen), CPU, ("eyes",))
    with pytest.raises(UserError, match="nothing is left to learn"):
        learner(str(qwen), str(qwen), CPU, ("vision", "language", "embeddings", "head"))


@pytest.mark.parametrize("settings", [CPU, LORA])
def test_the_reference_stays_what_the_policy_started_from(qwen, settings):
    found = learner(str(qwen), str(qwen), settings, ("vision",))
    before = logits(found.model)
    names = trained(found)
    spoil(found)
    with found.reference() as reference:
        assert torch.allclose(logits(reference), before, atol=1e-6)
    assert not torch.allclose(logits(found.model), before, atol=1e-2)
    assert trained(found) == names
    assert found.against == ("off" if settings.lora else "copy")


def test_lora_is_on_the_language_model_alone(qwen):
    found = learner(str(qwen), str(qwen), LORA, ())
    assert trained(found) and all("lora" in name and "visual" not in name for name in trained(found))
    assert found.base == str(qwen)


def test_second_round_goes_on_with_the_adapter_beside_a_frozen_copy_of_it(qwen, tmp_path):
    first = learner(str(qwen), str(qwen), LORA, ())
    spoil(first)
    first.save(tmp_path / "one")
    second = learner(str(tmp_path / "one"), str(tmp_path / "one"), LORA, ())
    assert second.against == "adapter" and second.base == str(qwen)
    start = logits(second.model)
    assert torch.allclose(start, logits(first.model), atol=1e-6)
    names = trained(second)
    assert names == trained(first)
    spoil(second)
    with second.reference() as reference:
        assert torch.allclose(logits(reference), start, atol=1e-6)
        assert not trained(second)
    assert trained(second) == names
    second.save(tmp_path / "two")
    third = learner(str(tmp_path / "two"), str(qwen), LORA, ())
    assert torch.allclose(logits(third.model), logits(second.model), atol=1e-6)
    assert not third.same_start and third.against == "off"
    with third.reference() as reference:
        assert torch.allclose(logits(reference), logits(learner(str(qwen), str(qwen), CPU, ()).model), atol=1e-6)
    with pytest.raises(UserError, match="keeps its shape"):
        other = ModelSettings(device="cpu", lora={"r": 3, "alpha": 4})
        learner(str(tmp_path / "one"), str(tmp_path / "one"), other, ())


def test_full_weights_from_an_adapter_and_another_reference(qwen, tmp_path):
    first = learner(str(qwen), str(qwen), LORA, ())
    spoil(first)
    first.save(tmp_path / "one")
    merged = learner(str(tmp_path / "one"), str(qwen), CPU, ("vision",))
    assert torch.allclose(logits(merged.model), logits(first.model), atol=1e-4)
    with merged.reference() as reference:
        assert not torch.allclose(logits(reference), logits(merged.model), atol=1e-2)


def test_something_outside_the_adapter_that_learns_is_refused(qwen):
    found = learner(str(qwen), str(qwen), LORA, ())
    next(p for n, p in found.model.named_parameters() if "visual" in n).requires_grad_(True)
    with pytest.raises(UserError, match="the reference would drift"):
        policy._check_only_adapter_learns(found)


def test_no_dropout_is_left_module_or_number(llama):
    found = learner(str(llama), str(llama), ModelSettings(device="cpu", lora={"r": 2, "dropout": 0.5}), ())
    for module in found.model.modules():
        assert getattr(module, "p", 0.0) == 0.0 if isinstance(module, nn.Dropout) else True

    class Attention(nn.Module):
        attention_dropout: float

        def __init__(self):
            super().__init__()
            self.attention_dropout = 0.1

    attention = Attention()
    silence_dropout(attention)
    assert attention.attention_dropout == 0.0


def test_forgetting_frees_the_copy(llama):
    found = learner(str(llama), str(llama), CPU, ())
    found.forget_reference()
    assert found.frozen is None
    with pytest.raises(RuntimeError), found.reference():
        pass
