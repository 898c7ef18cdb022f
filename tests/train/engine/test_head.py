import math

import pytest
import torch
from torch import nn

from vlm_selfalign.train.engine import head as module
from vlm_selfalign.train.engine.head import is_plain, score_hidden
from vlm_selfalign.train.losses import token_kl


@pytest.fixture(autouse=True)
def several_pieces(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 50)


def made(dtype=torch.float64, bias=True):
    torch.manual_seed(0)
    head, old = (nn.Linear(6, 20, bias=bias, dtype=dtype) for _ in range(2))
    hidden = torch.randn(7, 6, dtype=dtype, requires_grad=True)
    return head, hidden, torch.randint(20, (7,)), (torch.randn(7, 6, dtype=dtype), old)


@pytest.mark.parametrize("bias", [True, False])
def test_equals_ten_lines_of_torch_in_value_and_gradient(bias):
    head, hidden, ids, (before, old) = made(bias=bias)
    found = score_hidden(head, hidden, ids, stats=True, reference=(before, old))
    logits = head(hidden)
    log_p, log_q = logits.log_softmax(-1), old(before).log_softmax(-1)
    logp = log_p[torch.arange(7), ids]
    kl = (log_q.exp() * (log_q - log_p)).sum(-1)
    assert torch.allclose(found.logp_M, logp, atol=1e-12) and torch.allclose(found.kl_M, kl, atol=1e-12)
    assert torch.allclose(found.stats["entropy"], -(log_p.exp() * log_p).sum(-1), atol=1e-12)
    assert torch.allclose(found.stats["mean_logits"], logits.mean(-1), atol=1e-12)
    assert torch.equal(found.stats["is_top1"].bool(), logits.argmax(-1) == ids)
    weights = torch.randn(2, 7, dtype=torch.float64)
    learns = [hidden, *head.parameters()]
    one = torch.autograd.grad((weights[0] * found.logp_M + weights[1] * found.kl_M).sum(), learns)
    other = torch.autograd.grad((weights[0] * logp + weights[1] * kl).sum(), learns)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(one, other, strict=True))


def test_the_kl_is_the_losses_own():
    head, hidden, ids, (before, old) = made(torch.float32)
    found = score_hidden(head, hidden, ids, reference=(before, old))
    assert torch.allclose(found.kl_M, token_kl(old(before), head(hidden)), atol=1e-5)


def test_no_reference_no_kl_and_a_frozen_head_gets_no_gradient():
    head, hidden, ids, _ = made()
    head.requires_grad_(False)
    found = score_hidden(head, hidden, ids)
    found.logp_M.sum().backward()
    assert found.kl_M is None and found.stats == {} and head.weight.grad is None and hidden.grad is not None


def test_a_token_the_reference_forbids_counts_nothing():
    head, hidden, ids, (before, old) = made()
    with torch.no_grad():
        old.bias[3] = head.bias[3] = -math.inf
    found = score_hidden(head, hidden, ids.clamp(max=2), reference=(before, old))
    assert torch.isfinite(found.kl_M).all() and (found.kl_M >= 0).all()


def test_bf16_operands_are_summed_in_float32():
    head, hidden, ids, _ = made(torch.bfloat16)
    found = score_hidden(head, hidden, ids)
    exact = (hidden.double() @ head.weight.double().t() + head.bias.double()).log_softmax(-1)[torch.arange(7), ids]
    assert found.logp_M.dtype == torch.float32 and torch.allclose(found.logp_M.double(), exact, atol=1e-5)


def test_only_a_bare_matrix_is_plain():
    assert is_plain(nn.Linear(2, 2)) and not is_plain(nn.Sequential(nn.Linear(2, 2)))
