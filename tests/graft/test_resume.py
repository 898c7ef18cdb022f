"""A run that was cut off goes on as if it had not been."""

import time

import pytest
import torch

from vlm_selfalign.graft.resume import Run, straight, two_legs


def line(file, steps=25, until=float("inf")):
    """Fit a line by steps whose data depend on their number alone; the weights and what was seen."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    run = Run(file, [optimizer], model.state_dict, model.load_state_dict, steps, straight(3, 25), until)
    seen = []
    for step in run:
        data = torch.randn(8, 2, generator=torch.Generator().manual_seed(step))
        run.apply((model(data)[:, 0] - data.sum(-1)).pow(2).mean())
        seen.append(step)
    return model.weight.detach(), seen, run


def test_a_run_in_two_parts_ends_where_one_does(tmp_path):
    whole, seen, run = line(tmp_path / "whole.pt")
    assert seen == list(range(25)) and run.ended
    _, first, _ = line(tmp_path / "parts.pt", steps=13)
    parts, second, _ = line(tmp_path / "parts.pt")
    assert (first, second) == (list(range(13)), list(range(13, 25)))
    assert torch.equal(parts, whole)


def test_what_was_not_kept_is_done_again(tmp_path):
    whole, _, _ = line(tmp_path / "whole.pt")
    model = line(tmp_path / "parts.pt", steps=10)[0]
    state = (tmp_path / "parts.pt").read_bytes()
    assert not torch.equal(model, whole)
    line(tmp_path / "parts.pt", steps=14)
    (tmp_path / "parts.pt").write_bytes(state)  # as if it had been killed at step 14 before it could save
    again, seen, _ = line(tmp_path / "parts.pt")
    assert seen == list(range(10, 25))
    assert torch.equal(again, whole)


def test_past_its_time_it_stops_and_keeps(tmp_path):
    _, seen, run = line(tmp_path / "late.pt", until=time.time() - 1)
    assert seen == [] and not run.ended and (tmp_path / "late.pt").is_file()


def test_the_rate_goes_up_and_down():
    rate = straight(4, 100, least=0.1)
    assert [rate(step) for step in (0, 1, 3)] == [0.25, 0.5, 0.97]
    assert rate(50) == pytest.approx(0.5)
    assert rate(99) == pytest.approx(0.1)


def test_a_second_leg_begins_at_its_share_and_ends_at_nothing():
    first = straight(4, 100, least=0.1)
    rate = two_legs(first, 100, 50, 0.5)
    assert [rate(step) for step in (0, 50, 99)] == [first(step) for step in (0, 50, 99)]
    assert [rate(step) for step in (100, 125)] == [0.5, 0.25]
    assert 0 < rate(149) <= 0.011
