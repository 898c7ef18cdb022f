import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.train.losses import pair_ratios, pairwise_loss, rrpo, sft, soft_dpo, span_dpo, token_kl
from vlm_selfalign.train.scores import TextScores

LN2 = math.log(2)


def text(logp, mask=None, span=None, kl=None):
    logp = torch.as_tensor(logp, dtype=torch.float32)
    mask = torch.ones_like(logp, dtype=torch.bool) if mask is None else torch.tensor(mask)
    return TextScores(logp, mask, mask if span is None else torch.tensor(span), kl)


def scored(chosen, rejected, chosen_ref, rejected_ref, **kw):
    return {
        ("chosen", "policy"): text(chosen, **kw),
        ("rejected", "policy"): text(rejected, **kw),
        ("chosen", "reference"): text(chosen_ref, **kw),
        ("rejected", "reference"): text(rejected_ref, **kw),
    }


def weights(rows=1, **columns):
    return {"weight": torch.ones(rows)} | {k: torch.as_tensor(v) for k, v in columns.items()}


@pytest.mark.parametrize("positions", [2, 3])
def test_rrpo_closed_form_with_and_without_an_unsigned_position(positions):
    """V=2; labels (-100, ..., 0), one signed token; the published code fails at two positions."""
    shifted = positions - 1
    mask = [[False] * (shifted - 1) + [True]]
    other = [-7.0] * (shifted - 1)  # whatever stands at label -100 must not enter

    def side(probability):
        return [[*other, math.log(probability)]]

    reference = torch.tensor([[0.5, 0.5]]).log()
    policy = torch.tensor([[0.8, 0.2]]).log().requires_grad_()
    kl = torch.cat([torch.full((1, shifted - 1), 99.0), token_kl(reference, policy)[None]], 1)
    scores = scored(side(0.8), side(0.25), side(0.5), side(0.5), mask=mask)
    scores["chosen", "policy"] = text(side(0.8), mask=mask, kl=kl)
    found = rrpo(beta=0.1, alpha=0.01)(scores, weights())
    chosen, rejected = pair_ratios(scores)
    assert float(chosen - rejected) == pytest.approx(1.1631508, abs=1e-6)
    assert float(found.parts["preference"]) == pytest.approx(0.6366798, abs=1e-6)
    assert float(found.parts["kl"]) / 0.01 == pytest.approx(0.2231436, abs=1e-6)
    assert float(found.total) == pytest.approx(0.6389113, abs=1e-6)
    assert float(found.metrics["rewards/margins"]) == pytest.approx(0.1 * 1.1631508, abs=1e-6)


def test_equal_models_give_ln_2_and_no_kl_gradient():
    logits = torch.randn(1, 4, 7, requires_grad=True)
    kl = token_kl(logits.detach(), logits)
    kl.sum().backward()
    assert kl.abs().max() < 1e-6 and logits.grad.abs().max() < 1e-6
    logp = torch.randn(1, 4)
    scores = scored(logp, logp, logp, logp)
    scores["chosen", "policy"] = text(logp, kl=kl.detach())
    found = rrpo(beta=0.5, alpha=0.1)(scores, weights())
    assert float(found.total) == pytest.approx(LN2, abs=1e-7)
    assert float(rrpo().at_start(weights(3))) == pytest.approx(LN2, abs=1e-7)


def test_kl_is_finite_where_log_of_softmax_is_not():
    peaked = torch.tensor([[[200.0, 0.0, -300.0]]])
    published = peaked.softmax(-1) * peaked.softmax(-1).log()
    assert published.isnan().any()
    policy = torch.tensor([[[0.0, 1.0, 2.0]]], requires_grad=True)
    kl = token_kl(peaked, policy)
    kl.sum().backward()
    assert kl.isfinite().all() and policy.grad.isfinite().all()
    forbidden = torch.tensor([[[0.0, -math.inf, 1.0]]])
    allowed = forbidden.clone().requires_grad_()
    same = token_kl(forbidden, allowed)
    same.sum().backward()
    assert float(same.detach()) == pytest.approx(0, abs=1e-7) and allowed.grad.isfinite().all()


def test_token_kl_against_torch():
    reference, policy = torch.randn(3, 5, 11), torch.randn(3, 5, 11)
    expected = torch.nn.functional.kl_div(policy.log_softmax(-1), reference.softmax(-1), reduction="none").sum(-1)
    assert torch.allclose(token_kl(reference, policy), expected, atol=1e-6)
    assert torch.allclose(token_kl(reference + 5, policy - 3), token_kl(reference, policy), atol=1e-5)


def test_tokens_outside_spans_have_no_gradient_from_the_preference():
    chosen = torch.randn(1, 5, requires_grad=True)
    span = [[False, True, False, True, False]]
    mask = [[True] * 5]
    scores = {
        ("chosen", "policy"): TextScores(chosen, torch.tensor(mask), torch.tensor(span)),
        ("chosen", "reference"): text(torch.randn(1, 5), mask, span),
        ("rejected", "policy"): text(torch.randn(1, 5), mask, span),
        ("rejected", "reference"): text(torch.randn(1, 5), mask, span),
    }
    span_dpo(beta=1.0)(scores, weights()).total.backward()
    assert (chosen.grad != 0).tolist() == span


def test_span_of_an_unscored_token_counts_nothing():
    logp = torch.tensor([[math.nan, -1.0, -math.inf]])
    mask, span = [[False, True, False]], [[True, True, True]]
    scores = scored(logp, logp, logp - 1, logp, mask=mask, span=span)
    chosen, rejected = pair_ratios(scores)
    assert float(chosen) == pytest.approx(1.0) and float(rejected) == 0.0
    assert torch.isfinite(span_dpo(beta=1.0, nll=1.0)(scores, weights()).total)


def test_ratios_of_long_answers_keep_their_digits():
    reference = torch.full((1, 20_000), -11.7)
    policy = reference + 1e-4
    scores = scored(policy, reference, reference, reference)
    chosen, _ = pair_ratios(scores)
    assert float(chosen) == pytest.approx(float((policy.double() - reference.double()).sum()), rel=1e-5)


@given(p=st.floats(0.02, 0.98), offset=st.floats(-2, 2))
@settings(max_examples=50, deadline=None)
def test_soft_label_is_least_where_the_model_agrees(p, offset):
    z = torch.tensor([math.log(p / (1 - p)) + offset], dtype=torch.float32, requires_grad=True)
    pairwise_loss(z, p, offset).sum().backward()
    assert abs(float(z.grad)) < 1e-5


def test_soft_label_stationary_point_of_the_papers():
    beta = 0.1
    delta = torch.tensor([0.8473 / beta], requires_grad=True)
    pairwise_loss(beta * delta, 0.7).sum().backward()
    assert abs(float(delta.grad)) < 1e-6
    far = torch.tensor([300.0, -300.0], requires_grad=True)
    pairwise_loss(beta * far, 0.7).sum().backward()
    assert float(far.grad.abs().max()) <= beta


def test_half_a_label_is_least_at_zero_and_symmetric():
    z = torch.linspace(-3, 3, 13)
    values = pairwise_loss(z, 0.5)
    assert int(values.argmin()) == 6 and torch.allclose(values, values.flip(0))
    hinge = pairwise_loss(z, 0.3, kind="hinge")
    assert torch.allclose(hinge, 0.3 * torch.relu(1 - z) + 0.7 * torch.relu(1 + z))
    assert torch.allclose(pairwise_loss(z, 1.0, 2.0, "square"), (z - 2) ** 2)


def test_soft_dpo_reads_label_weight_and_margin():
    chosen, rejected, zeros = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [-1.0]]), torch.zeros(2, 1)
    columns = weights(2, label_prob=[0.8, 1.0], margin=[0.1, 0.0]) | {"weight": torch.tensor([2.0, 0.5])}
    scores = scored(chosen, rejected, zeros, zeros)
    found = soft_dpo(beta=0.5)(scores, columns)
    z = torch.tensor([0.25 - 0.1, 1.5])
    softplus = torch.nn.functional.softplus
    rows = columns["weight"] * (columns["label_prob"] * softplus(-z) + (1 - columns["label_prob"]) * softplus(z))
    assert float(found.total) == pytest.approx(float(rows.mean()))
    start = soft_dpo(beta=0.5).at_start(columns)
    same = soft_dpo(beta=0.5)(scored(zeros, zeros, zeros, zeros), columns).total
    assert float(start) == pytest.approx(float(same))


def test_rrpo_reads_no_label():
    zeros = torch.zeros(1, 1)
    scores = scored(zeros + 1, zeros, zeros, zeros)
    columns = weights(1, label_prob=[0.0], margin=[5.0])
    assert float(span_dpo(beta=1.0)(scores, columns).total) == pytest.approx(math.log1p(math.exp(-1)))


def test_nll_is_token_mean_of_the_whole_chosen_answer():
    logp = torch.tensor([[-1.0, -3.0, -5.0]])
    scores = scored(logp, logp, logp, logp, mask=[[True, True, False]], span=[[True, False, False]])
    parts = span_dpo(beta=1.0, nll=0.5)(scores, weights()).parts
    assert float(parts["nll"]) == pytest.approx(0.5 * 2.0)


def test_sft_token_mean_sum_and_weights():
    logp = torch.tensor([[-1.0, -2.0], [-4.0, 9.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    scores = {("answer", "policy"): TextScores(logp, mask, mask)}
    columns = {"weight": torch.tensor([1.0, 0.5])}
    assert float(sft()(scores, columns).total) == pytest.approx((3 + 0.5 * 4) / 3)
    assert float(sft(reduction="sum")(scores, columns).total) == pytest.approx((3 + 0.5 * 4) / 2)
    sft()(scores, columns).total.backward()
    assert logp.grad[1, 1] == 0


def test_parts_sum_to_the_loss():
    rows = [torch.randn(3, 4) for _ in range(4)]
    scores = scored(*rows)
    scores["chosen", "policy"] = text(rows[0], kl=torch.rand(3, 4))
    found = rrpo(beta=0.3, alpha=0.2)(scores, weights(3))
    assert float(found.total) == pytest.approx(sum(float(part) for part in found.parts.values()))


def test_wrong_settings_name_their_path():
    from vlm_selfalign.core.errors import UserError
    from vlm_selfalign.core.registry import resolve

    with pytest.raises(UserError, match=r"stages\.policy\.betta: unknown key; did you mean 'beta'"):
        resolve("loss", "rrpo").build({"betta": 1}, "stages.policy")
    with pytest.raises(UserError, match="did you mean 'rrpo'"):
        resolve("loss", "rrpoo")
