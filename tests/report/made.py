"""A finished run directory without any run: drawn pictures, pairs with planted falsehoods, numbers made up."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Demo, Origin, Pair, Row
from vlm_selfalign.data.world import picture
from vlm_selfalign.data.world.captions import Mention, caption, text
from vlm_selfalign.data.world.scenes import Split, scene
from vlm_selfalign.data.world.settings import WorldSettings

QUESTION = "Describe the image."
CONFIG: dict[str, Any] = {
    "name": "mirror",
    "about": "own descriptions, own yes/no check, balanced sentence pairs (mirror pairs), span-level DPO",
    "seed": 0,
    "rounds": 1,
    "data": {"source": "auto", "path": None, "limit": 800},
    "model": {"path": "embedded", "lora": None},
    "stages": {
        "candidates": {"method": "mirror_candidates", "samples": 8},
        "pairs": {"fold": "balance", "rows": "candidates"},
        "policy": {"fit": "span_dpo", "rows": "pairs", "beta": 1.0, "epochs": 3},
    },
}


def estimate(value: float, half: float, n: int = 500) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def write_run(folder: Path, rows: dict[str, list[Row]], config: dict[str, Any] | None = None) -> Path:
    """``run.json`` and rounds, nothing measured or trained."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {
        "schema": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "changes": [],
        "config": config or CONFIG,
        "versions": {"vlm_selfalign": "0.1.0", "torch": "2.15.0", "transformers": "5.23.0", "trl": "1.16.0"},
        "identities": {"policy@0": "b9c2f0d1a7", "policy": "77ad10ce42"},
    }
    (folder / "run.json").write_text(json.dumps(run))
    for name, listed in rows.items():
        path = folder / "rounds" / "0" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row.model_dump(mode="json")) + "\n" for row in listed))
    return folder


def mirror_pairs(count: int) -> list[Row]:
    """A deletion pair where a caption lies, a mirror pair where it does not."""
    rows: list[Row] = []
    for index in range(count):
        said = caption(scene(index), random.Random(index), WorldSettings())
        false = next((place for place, mention in enumerate(said) if not mention.true), None)
        place = false if false is not None else min(1, len(said) - 1)
        here = str(said[place])
        rest = str(said[place + 1]) if place + 1 < len(said) else ""
        chosen, rejected = (rest, here) if false is not None else (here, rest)
        rows.append(
            Pair(
                origin=Origin(sample=f"s{index:04d}", stage="pairs"),
                prompt=Prompt.user(QUESTION, picture(index)).opened(text(said[:place])),
                chosen=f" {chosen}" if chosen and place else chosen,
                rejected=f" {rejected}" if rejected and place else rejected,
                chosen_ends=not chosen,
                rejected_ends=not rejected,
                notes={
                    "role": "deletion" if false is not None else "mirror",
                    "before": said[place - 1].kind if place else "",
                    "chosen": "(end)" if not chosen else "x",
                    "rejected": "(end)" if not rejected else "x",
                },
            )
        )
    return rows


def demos(count: int) -> list[Row]:
    return [
        Demo(
            origin=Origin(sample=f"s{index:04d}", stage="describe"),
            prompt=Prompt.user(QUESTION, picture(index)),
            answer=text(caption(scene(index), random.Random(index), WorldSettings())),
        )
        for index in range(count)
    ]


def write_log(folder: Path, steps: int = 320, role: str = "policy", round_number: int = 0) -> None:
    chance, path = random.Random(1), folder / "rounds" / str(round_number) / role / "log.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in range(1, steps + 1):
        learnt = 1 - math.exp(-step / 90)
        loss, noise = 0.693 * (1 - 0.8 * learnt), chance.gauss(0, 0.05)
        line = {"step": step, "loss": loss + noise, "loss/preference": loss + noise - 0.02, "loss/kl": 0.02 * learnt}
        line |= {"rewards/margins": 3.4 * learnt + chance.gauss(0, 0.4), "rewards/accuracies": 0.5 + 0.45 * learnt}
        line |= {"logps/chosen": -6.1 + 1.2 * learnt + chance.gauss(0, 0.5)}
        line |= {"logps/rejected": -5.8 - 3.1 * learnt + chance.gauss(0, 0.5)}
        line |= {"kl/chosen": 0.4 * learnt, "grad_norm": 2.2 * (1 - 0.7 * learnt) + chance.uniform(0, 0.8)}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")


def arms() -> list[dict[str, Any]]:
    def arm(name: str, title: str, kind: str, chair: float, recall: float, **x: Any) -> dict[str, Any]:
        measures: dict[str, Any] = {
            "chair_i": estimate(chair, 0.004 + 0.1 * chair),
            "chair_s": estimate(min(1, 2.6 * chair), 0.03),
            "recall": estimate(recall, 0.006 + 0.05 * (1 - recall)),
            "length": estimate(24.0 * recall, 0.4),
            "unparsed": estimate(0.0, 0.0),
            "repetition": estimate(0.004, 0.003),
            "wrong_colour": estimate(0.011, 0.006),
        }
        if kind in ("start", "trained"):
            for split, right in (("random", 0.995), ("popular", 0.991), ("adversarial", 0.984)):
                measures[f"existence_{split}"] = estimate(right, 0.004)
            measures |= {"colour": estimate(0.989, 0.005), "count": estimate(0.93, 0.011)}
        if kind == "trained":
            measures["kl_per_token"] = estimate(0.083, 0.006)
            measures["contradiction"] = None
        cost = {
            "calls_per_sample": 4.9 if kind == "filter" else 1.0,
            "seconds_per_sample": 0.071 if kind == "filter" else 0.018,
        }
        return {"name": name, "title": title, "kind": kind, "x": x, "measures": measures, "cost": cost}

    found = [
        arm("start", "before training, greedy", "start", 0.096, 0.985, temperature=0.0),
        arm("trained", "after training, greedy", "trained", 0.031, 0.976, temperature=0.0),
        arm("trained_t1", "after training, sampled at T=1", "sampled", 0.047, 0.958, temperature=1.0),
    ]
    for t, chair, recall in zip(
        (0.2, 0.4, 0.6, 0.8, 1.0, 1.2), (97, 101, 108, 117, 131, 152), (984, 983, 980, 975, 966, 951), strict=True
    ):
        found.append(
            arm(f"start_t{t:g}", f"before, sampled at T={t:g}", "curve", chair / 1000, recall / 1000, temperature=t)
        )
    for k, chair, recall in zip((1, 2, 3, 4, 5), (4, 52, 81, 92, 95), (291, 574, 806, 938, 979), strict=True):
        title = f"before, cut after {k} sentences"
        found.append(arm(f"start_cut{k}", title, "curve", chair / 1000, recall / 1000, sentences=k))
    found.append(arm("start_filter", "before, denied sentences left out", "filter", 0.006, 0.981))
    return found


def differences() -> list[dict[str, Any]]:
    def row(measure: str, against: str, value: float, half: float, p: float | None) -> dict[str, Any]:
        ends = {"low": value - half, "high": value + half}
        return {"measure": measure, "of": "trained", "against": against, "value": value, **ends, "p": p}

    return [
        row("chair_i", "start", -0.065, 0.011, 1e-12),
        row("recall", "start", -0.009, 0.006, 0.003),
        row("chair_s", "start", -0.169, 0.03, 1e-9),
        row("length", "start", -0.31, 0.2, 0.0021),
        row("existence_adversarial", "start", 0.001, 0.004, 0.62),
        row("colour", "start", -0.004, 0.003, 0.011),
        row("chair_i", "start_filter", 0.025, 0.007, 1e-7),
    ]


def metrics(captions: int = 6) -> dict[str, Any]:
    counts = (("(end)", 214, 221), ("boat", 88, 86), ("fish", 143, 170), ("house", 74, 75), ("car", 139, 152),
              ("kite", 69, 66), ("ball", 97, 104), ("cup", 61, 64), ("box", 88, 97), ("star", 102, 81),
              ("tree", 96, 70))  # fmt: skip
    texts: dict[str, dict[str, Any]] = {"start": {}, "trained": {}}
    media = {}
    for index in range(captions):
        sample, split = f"t{index}", "test"
        media[sample] = [picture(index, split).model_dump(mode="json")]
        texts["start"][sample] = marked(caption(scene(index, split), random.Random(index), WorldSettings()))
        texts["trained"][sample] = text(true_mentions(index, split))
    return {
        "schema": 1,
        "samples": 500,
        "primary": "chair_i",
        "arms": arms(),
        "differences": differences(),
        "envelope": {"measure": "chair_i", "recall": 0.976, "control": 0.0947, **estimate(-0.0637, 0.0115)},
        "audit": {
            "pairs": 1712,
            "chosen_false": 0.008,
            "rejected_false": 0.512,
            "names": [{"name": name, "chosen": chosen, "rejected": rejected} for name, chosen, rejected in counts],
        },
        "captions": texts,
        "media": media,
        "seconds": {"stage 0/candidates": 96.1, "stage 0/pairs": 0.4, "stage 0/policy": 148.0, "policy generate": 81.2,
                    "policy choose": 12.9, "ledger": 1.4},
    }  # fmt: skip


def true_mentions(index: int, split: Split) -> tuple[Mention, ...]:
    return tuple(Mention(thing.kind, thing.colour, True) for thing in scene(index, split).things)


def marked(said: tuple[Mention, ...]) -> dict[str, Any]:
    """A caption and the spans of its false names."""
    whole, false, place = text(said), [], 0
    for mention in said:
        if not mention.true:
            start = place + str(mention).index(mention.kind)
            false.append([start, start + len(mention.kind)])
        place += len(str(mention)) + 1
    return {"text": whole, "false": false}


def whole_run(folder: Path, pairs: int = 400) -> Path:
    """Everything a finished run leaves."""
    write_run(folder, {"candidates": mirror_pairs(pairs + 80), "pairs": mirror_pairs(pairs)})
    write_log(folder)
    drops = [
        {"round": 0, "stage": "candidates", "reason": "no claim in any own description", "count": 7},
        {"round": 0, "stage": "pairs", "reason": "mirror pair not needed for balance", "count": 3128},
    ]
    (folder / "drops.jsonl").write_text("".join(json.dumps(line) + "\n" for line in drops))
    (folder / "metrics.json").write_text(json.dumps(metrics()))
    return folder
