import pytest
import torch
import torch.nn.functional as F

from vlm_selfalign.train.engine.attention import _TreeAttention, pieces_of, visible
from vlm_selfalign.train.engine.tree import Node

DEEP = (
    Node(0, 20, 57),
    Node(20, 50, 55, root=False),
    Node(50, 51, 54, root=False),
    Node(51, 53, 53, root=False),
    Node(53, 54, 54, root=False),
    Node(54, 55, 55, root=False),
    Node(55, 57, 57, root=False),
    Node(57, 60, 60),
)
PAIR = (Node(0, 40, 60), Node(40, 45, 45, root=False), Node(45, 60, 60, root=False))


@pytest.mark.parametrize("nodes", [DEEP, PAIR, (Node(0, 60, 60),)], ids=["deep", "pair", "alone"])
@pytest.mark.parametrize("dtype, limit", [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_equals_one_mask_in_value_and_gradient(nodes, dtype, limit):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 4, 60, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    found = _TreeAttention.apply(q, k, v, pieces_of(nodes), 0.3, None)[0]
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=visible(nodes), scale=0.3)
    weights = torch.randn_like(found)
    assert (found - wanted).norm() <= limit * wanted.norm()
    for one, other in zip(
        torch.autograd.grad(found, (q, k, v), weights), torch.autograd.grad(wanted, (q, k, v), weights), strict=True
    ):
        assert (one - other).norm() <= limit * other.norm()


@pytest.mark.parametrize(
    "nodes, wanted",
    [
        (DEEP, [*range(15, 20), *range(20, 50), 50, 51, 52, 53, 54, 55, 56, 58]),
        (DEEP, [49, 56]),
        (PAIR, [39, *range(40, 44), *range(45, 59)]),
        (PAIR, range(60)),
    ],
)
def test_wanted_places_alone(nodes, wanted):
    torch.manual_seed(0)
    wanted_Q = torch.tensor(list(wanted))
    q, k, v = (torch.randn(1, heads, 60, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    found = _TreeAttention.apply(q[:, :, wanted_Q], k, v, pieces_of(nodes, wanted_Q), None, None)[0]
    whole = F.scaled_dot_product_attention(q, k, v, attn_mask=visible(nodes), enable_gqa=True)[:, :, wanted_Q]
    weights = torch.randn_like(found)
    assert torch.allclose(found, whole, rtol=0, atol=1e-14)
    for one, other in zip(
        torch.autograd.grad(found, (q, k, v), weights), torch.autograd.grad(whole, (q, k, v), weights), strict=True
    ):
        assert torch.allclose(one, other, rtol=0, atol=1e-13)


def test_wanted_places_with_a_gap_are_refused():
    with pytest.raises(ValueError, match="side by side"):
        pieces_of(PAIR, torch.tensor([3, 5]))


def test_gradcheck():
    nodes = (Node(0, 2, 5), Node(2, 3, 3, root=False), Node(3, 5, 5, root=False))
    given = [torch.randn(1, 1, 5, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(
        lambda q, k, v: _TreeAttention.apply(q, k, v, pieces_of(nodes), None, None)[0], given
    )


def test_large_scores_do_not_overflow():
    q, k, v = (100 * torch.randn(1, 2, 60, 8) for _ in range(3))
    found = _TreeAttention.apply(q, k, v, pieces_of(PAIR), None, None)[0]
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=visible(PAIR))
    assert torch.isfinite(found).all() and torch.allclose(found, wanted, rtol=1e-4, atol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_in_bf16():
    q, k, v = (torch.randn(1, 4, 60, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    found = _TreeAttention.apply(q, k, v, pieces_of(DEEP), None, None)[0]
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=visible(DEEP, q.device))
    weights = torch.randn_like(found)
    assert (found - wanted).norm() <= 2e-2 * wanted.norm()
    for one, other in zip(
        torch.autograd.grad(found, (q, k, v), weights), torch.autograd.grad(wanted, (q, k, v), weights), strict=True
    ):
        assert (one - other).norm() <= 2e-2 * other.norm()
