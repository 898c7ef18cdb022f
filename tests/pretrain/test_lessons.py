"""The whole run, made short: deterministic per seed, and a stalled seed is noticed."""

import pytest
import torch

from vlm_selfalign.pretrain import language, lessons, vision


@pytest.fixture(autouse=True)
def short(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(lessons, "PICTURES", 48)
    monkeypatch.setattr(lessons, "HELD_OUT", 8)
    monkeypatch.setattr(vision, "STEPS", 12)
    monkeypatch.setattr(language, "STEPS", 4)


def test_the_same_seed_teaches_the_same_weights():
    log: list[dict] = []
    first, _, seed = lessons.teach(3, log.append)
    second, _, _ = lessons.teach(3, lambda record: None)
    other, _, _ = lessons.teach(4, lambda record: None)
    assert seed == 3
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    losses = [record["loss"] for record in log if record["stage"] == "vision"]
    assert losses[-1] < 0.1 * losses[0]


def test_a_stalled_seed_gives_way_to_the_next(monkeypatch):
    monkeypatch.setattr(language, "STALLED_AT", 2)
    monkeypatch.setattr(lessons, "TRIES", 2)
    log: list[dict] = []
    with pytest.raises(language.Stalled, match="seeds 5 to 6"):
        lessons.teach(5, log.append)
    assert [(r["seed"], r["next"]) for r in log if r["stage"] == "stalled"] == [(5, 6), (6, 7)]
