"""Muon's step is orthogonal, batched or not."""

import torch

from vlm_selfalign.pretrain.muon import Muon, orthogonal


def test_singular_values_end_near_one():
    torch.manual_seed(0)
    for shape in ((3, 16, 40), (2, 40, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.5 and values.max() < 1.3, shape


def test_a_step_has_the_size_of_its_learning_rate_and_goes_downhill():
    weight = torch.nn.Parameter(torch.randn(32, 64))
    other = torch.nn.Parameter(torch.randn(32, 64))
    before = weight.detach().clone()
    optimizer = Muon([weight, other], lr=0.01)
    (weight.pow(2).sum() + other.pow(2).sum()).backward()
    optimizer.step()
    moved = weight.detach() - before
    assert 0.001 < moved.pow(2).mean().sqrt() < 0.004
    assert (moved * before).sum() < 0
