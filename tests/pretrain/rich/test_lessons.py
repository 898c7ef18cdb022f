"""The whole run, made short: deterministic per seed, also when it was interrupted."""

import pytest
import torch

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.pretrain.rich import language, lessons, vision

SIZE = lessons.Size(pictures=40, crowded=10, clips=10, held_out=4, steps=4)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(vision, "STEPS", 6)
    monkeypatch.setattr(vision, "BATCHES", (4, 4))
    monkeypatch.setattr(lessons, "USED", 20)
    monkeypatch.setattr(language, "SAVED_EVERY", 2)


class Interrupted(Exception):
    pass


def test_an_interrupted_run_ends_like_any_other(tmp_path, monkeypatch):
    whole, cut, other = tmp_path / "whole", tmp_path / "cut", tmp_path / "other"
    for folder in (whole, cut, other):
        folder.mkdir()
    log: list[dict] = []
    first, _ = lessons.teach(3, whole, log.append, SIZE)
    assert next(r["step"] for r in log if r["stage"] == "vision") == 0

    step = language.Learner.step

    def failing(learner):
        if learner.done == 3:
            raise Interrupted
        return step(learner)

    monkeypatch.setattr(language.Learner, "step", failing)
    with pytest.raises(Interrupted):
        lessons.teach(3, cut, log.append, SIZE)
    monkeypatch.setattr(language.Learner, "step", step)
    second, _ = lessons.teach(3, cut, log.append, SIZE)
    assert [r["step"] for r in log if r["stage"] == "resumed"] == [2]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

    with pytest.raises(UserError, match="unfinished run"):
        lessons.teach(4, cut, log.append, SIZE)
    third, _ = lessons.teach(4, other, log.append, SIZE)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))
