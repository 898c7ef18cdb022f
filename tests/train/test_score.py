import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from vlm_selfalign.train import score
from vlm_selfalign.train.losses import token_kl
from vlm_selfalign.train.score import answer_logits, score_tokens


@pytest.fixture
def model(llama):
    return AutoModelForCausalLM.from_pretrained(llama)


def batch():
    ids = torch.randint(10, 200, (3, 9))
    answer = torch.zeros(3, 9, dtype=torch.bool)
    answer[0, 4:7], answer[1, 2:9], answer[2, 8:9] = True, True, True
    attention = torch.ones_like(ids)
    attention[0, 7:] = 0
    return {"input_ids": ids, "attention_mask": attention}, answer


def test_equals_the_whole_forward_in_value_and_gradient(model, monkeypatch):
    monkeypatch.setattr(score, "CHUNK", 1000)  # several chunks even here
    inputs, answer = batch()
    found = score_tokens(model, inputs, answer, stats=True)
    weights = torch.randn_like(found.logp_NT)
    (found.logp_NT * weights).sum().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    log_p = model(**inputs).logits[:, :-1].float().log_softmax(-1)
    logp = log_p.gather(2, inputs["input_ids"][:, 1:, None]).squeeze(2) * answer[:, 1:]
    (logp * weights).sum().backward()
    assert torch.allclose(found.logp_NT, logp, atol=1e-5)
    for name, p in model.named_parameters():
        assert torch.allclose(grads[name], p.grad, atol=1e-5), name
    entropy = -(log_p.exp() * log_p).sum(-1) * answer[:, 1:]
    assert torch.allclose(found.stats["entropy"], entropy, atol=1e-5)


def test_kl_of_the_first_sequences_in_value_and_gradient(model, monkeypatch):
    monkeypatch.setattr(score, "CHUNK", 1000)
    inputs, answer = batch()
    first = answer[:2]
    with torch.no_grad():
        reference = answer_logits(model, {k: v[:2] for k, v in inputs.items()}, first) + torch.randn(
            int(first.sum()), model.config.vocab_size
        )
        reference[0, 3] = -math.inf
    found = score_tokens(model, inputs, answer, reference_logits_MV=reference, kl_sequences=2)
    (found.kl_NT.sum() + found.logp_NT[2].sum()).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    logits = answer_logits(model, inputs, answer)
    kl = token_kl(reference, logits[: len(reference)])
    (kl.sum() + logits[-1].float().log_softmax(-1)[inputs["input_ids"][2, 8]]).backward()
    assert torch.allclose(found.kl_NT[:2][first[:, 1:]], kl, atol=1e-5)
    assert found.kl_NT[2].abs().sum() == 0
    for name, p in model.named_parameters():
        assert torch.allclose(grads[name], p.grad, atol=1e-4), name


def test_the_head_is_left_as_it_was(model):
    inputs, answer = batch()
    before = model(**inputs).logits.shape
    score_tokens(model, inputs, answer)
    assert model(**inputs).logits.shape == before == (3, 9, model.config.vocab_size)


def test_a_constant_added_to_logits_changes_nothing():
    logits, ids = torch.randn(4, 8), torch.tensor([1, 2, 3, 4])
    reference = torch.randn(4, 8)
    plain = score._LogpAndKl.apply(logits, ids, reference)
    moved = score._LogpAndKl.apply(logits + 40, ids, reference - 9)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, moved, strict=True))
