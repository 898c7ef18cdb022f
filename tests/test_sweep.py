"""A sweep on the recipe's own pairs: stopped after a point it goes on, and no point is fitted or measured twice."""

import json

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.report.sweep import frontier
from vlm_selfalign.sweep import SweepSettings, parse, sweep


class Stopped(Exception):
    pass


def test_two_losses_on_the_same_pairs_stopped_and_gone_on(tmp_path):
    fit = ["stages.policy.batch_size=4", "measure.limit=3", "data.limit=8"]
    settings, swept = parse(["rrpo", "size=smoke", f"out={tmp_path}", *fit, "beta=[.5]", "learning_rate=[1.0e-2]"])

    def stopping(line):
        if line.startswith("dpo"):
            raise Stopped

    with pytest.raises(Stopped):
        sweep(settings, swept, show=stopping)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/policy/model.safetensors")}
    assert len(kept) == 1
    lines = []
    found = sweep(settings, swept, show=lines.append)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [(p["loss"], p["settings"]) for p in found["points"]] == [
        (loss, {"beta": 0.5, "learning_rate": 0.01}) for loss in ("dpo", "rrpo")
    ]
    drift = [point["measures"]["kl_per_token"]["value"] for point in found["points"]]
    assert drift[0] != drift[1] and all(value != 0 for value in drift), "a fit taught nothing"
    assert found["start"]["kl_per_token"]["value"] == 0
    logs = [
        [json.loads(line) for line in p.read_text().splitlines()] for p in tmp_path.glob("sweep/*/policy/log.jsonl")
    ]
    assert len(logs) == 2 and logs[0][0]["loss"] == pytest.approx(logs[1][0]["loss"], abs=1e-3), "ln 2 for both"
    assert (tmp_path / "report.html").read_text().count('id="sweep"') == 1
    assert sum(line.startswith(("dpo, beta", "rrpo, beta")) for line in lines) == 2


def test_every_loss_meets_every_beta_and_rate():
    _, swept = parse(["rrpo", "beta=[.1, .5]", "learning_rate=[1.0e-4]", "losses={dpo: {}, rrpo: {alpha: .1}}"])
    assert len(swept.points()) == 4 and {loss for loss, _ in swept.points()[:2]} == {"dpo", "rrpo"}
    assert len(SweepSettings().points()) == 32


def test_a_misspelt_setting_is_refused_with_its_path(tmp_path):
    with pytest.raises(UserError, match="beta"):
        parse(["rrpo", "beta=wide"])
    settings, swept = parse(["rrpo", "size=smoke", f"out={tmp_path}", "losses={dpo: {alhpa: 1}}"])
    with pytest.raises(UserError, match=r"losses\.dpo\.alhpa: unknown key"):
        sweep(settings, swept, show=lambda line: None)
    assert not list(tmp_path.glob("rounds/*")), "it was found out before pairs were made"


def test_the_frontier_falls_and_ends_at_its_lowest():
    assert frontier([(0, 5), (1, 3), (2, 4), (3, 1), (4, 2)]) == [(0, 5), (1, 3), (3, 1)]
    assert frontier([(0, 1), (1, 3)]) == [(0, 1)]
    assert frontier([]) == []
