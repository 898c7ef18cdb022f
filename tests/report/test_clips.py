"""What only clips bring to the page: candidates and their guards, curves over rounds, gain against drift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlm_selfalign.report.candidates import candidates_of
from vlm_selfalign.report.clips import parts_of, rounds_plot
from vlm_selfalign.report.folder import RunFolder
from vlm_selfalign.report.headline import Measured
from vlm_selfalign.report.numbers import measure
from vlm_selfalign.report.sweep import sweep_plot

from . import made


def test_the_rate_of_vanished_spans_is_of_the_pairs_that_were_aligned(tmp_path: Path) -> None:
    stages = {"candidates": {"method": "rrpo"}, "pairs": {"fold": "key_phrases", "rows": "candidates"}}
    folder = made.write_run(tmp_path, {"pairs": made.mirror_pairs(6)}, {**made.CONFIG, "stages": stages})
    reasons = {
        "answer to the perturbed clip is right": 10,
        "spans vanished: both answers are the same words": 2,
        "more than 50% of the words differ": 2,
    }
    drops = [{"round": 0, "stage": "pairs", "reason": reason, "count": count} for reason, count in reasons.items()]
    (folder / "drops.jsonl").write_text("".join(json.dumps(drop) + "\n" for drop in drops))
    (found,) = candidates_of(RunFolder(folder))
    assert (found.of, found.kept, found.aligned, found.vanished) == (20, 6, 10, 2)
    assert (found.share(found.kept), found.vanished_share) == ("30.0 %", "20.0 %")
    from vlm_selfalign.report.page import write_page

    page = write_page(folder).read_text()
    assert "6 of 20 candidates became pairs (30.0 %)" in page and "vanished in 2 (20.0 %)" in page


def test_nothing_is_told_of_stages_that_part_nothing(tmp_path: Path) -> None:
    assert candidates_of(RunFolder(made.write_run(tmp_path, {"pairs": made.mirror_pairs(2)}))) == []


def arm(name: str, kind: str, chair: float, at: int | None = None) -> dict[str, Any]:
    measures = {"event_chair_i": made.estimate(chair, 0.02), "event_recall": made.estimate(0.9, 0.02)}
    return {"name": name, "title": name, "kind": kind, "x": {"round": at}, "measures": measures}


def test_curves_over_rounds_need_a_version_on_the_way() -> None:
    ends = [arm("start", "start", 0.3), arm("trained", "trained", 0.1)]
    assert rounds_plot(Measured({"arms": ends})) is None
    plot = rounds_plot(Measured({"arms": [*ends, arm("round1", "round", 0.2, 1)]}))
    assert plot is not None and "Event CHAIRᵢ, Event recall after each round" in plot


def test_a_sweep_is_a_curve_for_each_loss() -> None:
    points = [
        {
            "loss": loss,
            "settings": {"beta": beta},
            "measures": {**arm("", "", chair)["measures"], "kl_per_token": made.estimate(drift, 0)},
        }
        for loss, beta, chair, drift in (("dpo", 1, 0.2, 0.1), ("dpo", 2, 0.1, 0.3), ("rrpo", 1, 0.1, 0.1))
    ]
    sweep = {"primary": "event_chair_i", "recall": "event_recall", "start": arm("", "", 0.3)["measures"]}
    plot = sweep_plot({**sweep, "points": points})
    assert plot is not None and plot.count("<title>") == 6, "a hover text for each point of each panel"
    assert "dpo, beta 2: Event CHAIRᵢ 10.0, KL 0.3000" in plot
    assert sweep_plot({**sweep, "points": []}) is None


def test_measures_of_questions_are_named_after_them() -> None:
    found = measure("order_questions/both_right")
    assert (found.title, found.better, found.unit) == ("In this order, both right", "higher", "share")
    assert measure("some/thing").title == "Some/thing"
    rows = [{"measure": "questions", "by": "length", "part": part, "arms": {"start": None}} for part in ("a", "b")]
    (table,) = parts_of({"parts": rows, "arms": [{"name": "start"}]})
    assert table.arms == ("start",) and [part for part, _ in table.rows] == ["a", "b"]
