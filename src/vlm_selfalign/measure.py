"""Before and after on samples no stage saw, beside the controls that need no training; gain *and* drift.

Items first (``items.jsonl``: arm, measure, sample, numerator, denominator), then ``metrics.json``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlm_selfalign.arms import Answers, answer_all
from vlm_selfalign.core.ledger import write_atomic
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.metrics.captions import Described, caption_measures, read
from vlm_selfalign.metrics.envelope import Point, envelope_difference
from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.metrics.statistics import Estimate, difference, estimate, holm, mcnemar
from vlm_selfalign.recipe import Run, vocabulary_of
from vlm_selfalign.scoring.claims import claimed, read_claims
from vlm_selfalign.scoring.truth import kinds_of, objects_of
from vlm_selfalign.scoring.vocabulary import Vocabulary

PRIMARY = "chair_i"
WITHOUT_TRUTH = {"length", "unparsed", "repetition", "repeated_sentences"}
LOWER = {"kl_per_token", "contradiction"}
COMPARED = (("trained", "start"), ("trained", "start_filter"))
SHOWN = 12
"""Captions kept in metrics.json for the page."""


def measure(run: Run) -> dict[str, Any]:
    """Answer all arms, score them, compare them, and write it down. Continues where it was left."""
    samples, answers = answer_all(run)
    words = Vocabulary.load(vocabulary_of(run.settings))
    described = {a.arm.name: _described(a, samples, words) for a in answers}
    measures = {a.arm.name: _measures(a, described[a.arm.name], samples) for a in answers}
    draws, seed = run.settings.measure.resamples, run.settings.seed
    metrics = {
        "schema": 1,
        "samples": len(samples),
        "primary": PRIMARY,
        "arms": [_arm(a, measures[a.arm.name], draws, seed, _before(run)) for a in answers],
        "differences": _differences(measures, draws, seed),
        "envelope": _envelope(answers, measures, draws, seed),
        "audit": _audit(run, words),
        "captions": {name: _captions(described[name]) for name in ("start", "trained") if name in described},
        "media": {s.id: [m.model_dump(mode="json") for m in s.prompt.media] for s in samples[:SHOWN]},
        "seconds": {name: round(s, 2) for name, s in run.driver.seconds.items()},
    }
    write_atomic(run.folder / "items.jsonl", "".join(_item_lines(measures)))
    write_atomic(run.folder / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))
    return metrics


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """The few lines a run ends with: before, after, the controls, and what the difference is worth."""
    arms = {arm["name"]: arm for arm in metrics["arms"]}
    lines = [f"measured on {metrics['samples']} held-out samples, 95 % intervals:"]
    names = [n for n in ("chair_i", "chair_s", "recall", "contradiction", "kl_per_token", "count") if _shown(arms, n)]
    for name in names:
        told = [arms[arm] for arm in ("start", "trained", "start_filter") if arm in arms]
        cells = [f"{arm['name']} {_number(arm['measures'][name])}" for arm in told if arm["measures"].get(name)]
        lines.append(f"  {name:<14} " + "   ".join(cells))
    envelope = metrics.get("envelope")
    if envelope and envelope["value"] is not None:
        lines.append(
            f"  against the untrained model's lower envelope at the same recall: {envelope['value']:+.3f} "
            f"[{envelope['low']:+.3f}, {envelope['high']:+.3f}] chair_i"
        )
    elif envelope:
        lines.append(f"  no contrast with the untrained envelope: {envelope['reason']}")
    return lines


def _described(answers: Answers, samples: Sequence[Sample], words: Vocabulary) -> list[Described]:
    texts = [
        (sample.id, answers.captions[sample.id].answer, objects_of(sample.truth))
        for sample in samples
        if sample.id in answers.captions
    ]
    return read(texts, words)


def _measures(answers: Answers, described: Sequence[Described], samples: Sequence[Sample]) -> dict[str, Measure]:
    known = any(objects_of(sample.truth) for sample in samples)
    found = {name: m for name, m in caption_measures(described).items() if known or name in WITHOUT_TRUTH}
    items: dict[str, list[Item]] = {}
    for sample, rows in sorted(answers.items.items()):
        for row in rows:
            num, den = row.notes.get("num", row.label), row.notes.get("den", 1)
            items.setdefault(row.notes["measure"], []).append(Item(sample, float(num), float(den)))
    return found | {name: Measure.of(name, listed, name in LOWER) for name, listed in items.items()}


def _arm(
    answers: Answers, measures: Mapping[str, Measure], draws: int, seed: int, before: Mapping[str, Any]
) -> dict[str, Any]:
    arm = answers.arm
    estimates = {name: estimate(measured, draws, seed=seed) for name, measured in measures.items()}
    cost = {"calls_per_sample": answers.calls, "seconds_per_sample": answers.seconds}
    if answers.calls is None:
        # Everything was remembered, so nothing was paid this time: keep what it cost when it was.
        cost = before.get(arm.name, {}).get("cost", cost)
    return {
        "name": arm.name,
        "title": arm.title,
        "kind": arm.kind,
        "x": {"temperature": arm.temperature, "sentences": arm.sentences},
        "measures": {name: _plain(found) for name, found in estimates.items() if found},
        "cost": cost,
    }


def _before(run: Run) -> dict[str, Any]:
    path = run.folder / "metrics.json"
    return {arm["name"]: arm for arm in json.loads(path.read_text())["arms"]} if path.exists() else {}


def _differences(measures: Mapping[str, Mapping[str, Measure]], draws: int, seed: int) -> list[dict[str, Any]]:
    found = []
    for of, against in COMPARED:
        for name in measures.get(of, {}):
            before = measures.get(against, {}).get(name)
            after = measures[of][name]
            if before is None or set(before.clusters) != set(after.clusters):
                continue
            change = difference(before, after, draws, seed=seed)
            if change:
                p = _mcnemar(before, after)
                found.append({"measure": name, "of": of, "against": against, **_plain(change), "p": p})
    adjusted = holm({str(i): d["p"] for i, d in enumerate(found) if d["p"] is not None})
    return [{**d, "p_holm": adjusted.get(str(i))} for i, d in enumerate(found)]


def _mcnemar(before: Measure, after: Measure) -> float | None:
    """Exact McNemar where every item of both is one hit or miss, in the same order of the same samples."""
    one = all(item.den == 1 and item.num in (0, 1) for m in (before, after) for item in m.items)
    if not one or [i.cluster for i in before.items] != [i.cluster for i in after.items]:
        return None
    hits = [[bool(item.num) != m.lower_is_better for item in m.items] for m in (before, after)]
    return mcnemar(*hits).p


def _envelope(
    answers: Sequence[Answers], measures: Mapping[str, Mapping[str, Measure]], draws: int, seed: int
) -> dict[str, Any] | None:
    def point(name: str) -> Point:
        return Point(name, measures[name]["chair_i"], measures[name]["recall"])

    controls = [a.arm.name for a in answers if a.arm.kind in {"start", "curve"} and "chair_i" in measures[a.arm.name]]
    if len(controls) < 2 or "chair_i" not in measures.get("trained", {}):
        return None
    found = envelope_difference([point(name) for name in controls], point("trained"), draws, seed=seed)
    value = _plain(found.difference) if found.difference else {"value": None, "low": None, "high": None}
    recall = measures["trained"]["recall"].value
    return {"measure": PRIMARY, "recall": recall, "control": found.envelope, "reason": found.reason or None, **value}


def _audit(run: Run, words: Vocabulary) -> dict[str, Any] | None:
    """How often each side of the last fit's pairs holds a falsehood, and how often each name stands on each side."""
    fits = [(r, s) for r in range(run.settings.rounds) for s in run.stages if s.kind == "fit" and s.runs_in(r)]
    rows = run.output(fits[-1][1].rows[0], fits[-1][0]).rows if fits else None
    pairs = [row for row in rows or () if isinstance(row, Pair)]
    if not pairs:
        return None
    wanted = {row.origin.sample for row in pairs}
    truths = {s.id: set(kinds_of(s.truth)) for s in run.samples if s.id in wanted and objects_of(s.truth)}
    sides: dict[str, Counter[str]] = {"chosen": Counter(), "rejected": Counter()}
    false: Counter[str] = Counter()
    judged = [row for row in pairs if row.origin.sample in truths]
    for row in pairs:
        for side, count in sides.items():
            kinds = {claim.kind for claim in claimed(read_claims(getattr(row, side), words))}
            count.update(kinds or ({"(end)"} if getattr(row, f"{side}_ends") and not getattr(row, side) else set()))
            false[side] += bool(row.origin.sample in truths and kinds - truths[row.origin.sample])
    names = sorted(set(sides["chosen"]) | set(sides["rejected"]))
    return {
        "pairs": len(pairs),
        "chosen_false": false["chosen"] / len(judged) if judged else None,
        "rejected_false": false["rejected"] / len(judged) if judged else None,
        "names": [{"name": n, "chosen": sides["chosen"][n], "rejected": sides["rejected"][n]} for n in names],
    }


def _captions(described: Iterable[Described]) -> dict[str, Any]:
    shown = list(described)[:SHOWN]
    return {
        one.sample: {
            "text": one.text,
            "false": [[c.start, c.end] for c in one.mentions if one.truth and one.is_false(c)],
        }
        for one in shown
    }


def _item_lines(measures: Mapping[str, Mapping[str, Measure]]) -> Iterable[str]:
    for arm, found in measures.items():
        for name, measured in found.items():
            for item in measured.items:
                row = {"arm": arm, "measure": name, "sample": item.cluster, "num": item.num, "den": item.den}
                yield json.dumps(row) + "\n"


def _plain(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _shown(arms: Mapping[str, Any], name: str) -> bool:
    return any((arms.get(arm, {}).get("measures") or {}).get(name) for arm in ("start", "trained"))


def _number(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
