"""Before and after on samples no stage saw, beside the controls that need no training; gain *and* drift.

Items first (``items.jsonl``: arm, measure, sample, numerator, denominator), then ``metrics.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlm_selfalign.arms import FRAMES, Answers, answer_all
from vlm_selfalign.core.ledger import write_atomic
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.metrics.audit import audit
from vlm_selfalign.metrics.captions import Described, caption_measures, read
from vlm_selfalign.metrics.envelope import Point, envelope_difference
from vlm_selfalign.metrics.items import Measure
from vlm_selfalign.metrics.parts import band, divided
from vlm_selfalign.metrics.probed import probe_measures, probe_parts, self_asked
from vlm_selfalign.metrics.statistics import Estimate, difference, estimate, holm, mcnemar
from vlm_selfalign.metrics.temporal import WITHOUT_TRUTH as EVENTS_WITHOUT_TRUTH
from vlm_selfalign.metrics.temporal import Narrated, event_chair_i, event_measures, narrate
from vlm_selfalign.recipe import Run, vocabulary_of
from vlm_selfalign.scoring.happenings import knows_events
from vlm_selfalign.scoring.truth import objects_of
from vlm_selfalign.scoring.vocabulary import Vocabulary

PRIMARY = {"chair_i": "recall", "event_chair_i": "event_recall"}
"""What a run is judged by, and the recall it must not pay with; of clips whose events are known, the latter."""

WITHOUT_TRUTH = {"length", "unparsed", "repetition", "repeated_sentences"}
COMPARED = (("trained", "start"), ("trained", "start_filter"))
SHOWN = 12
"""Captions kept in metrics.json for the page."""


@dataclass(frozen=True)
class Told:
    """One arm's descriptions with the claims read out of them; ``narrated`` where events are looked for."""

    described: list[Described] = field(default_factory=list)
    narrated: list[Narrated] = field(default_factory=list)


def measure(run: Run) -> dict[str, Any]:
    """Answer all arms, score them, compare them, and write it down. Continues where it was left."""
    samples, answers = answer_all(run)
    words = Vocabulary.load(vocabulary_of(run.settings))
    told = {a.arm.name: read_told(a, samples, words) for a in answers}
    measures = {a.arm.name: measures_of(a, told[a.arm.name], samples) for a in answers}
    draws, seed = run.settings.measure.resamples, run.settings.seed
    primary = primary_of(measures.get("start", {}))
    metrics = {
        "schema": 1,
        "samples": len(samples),
        "place": words.place,
        "primary": primary,
        "recall": PRIMARY[primary],
        "arms": [_arm(a, measures[a.arm.name], draws, seed, _before(run)) for a in answers],
        "differences": _differences(measures, draws, seed),
        "envelope": _envelope(answers, measures, primary, draws, seed),
        "parts": _parts(run, answers, told, samples, draws),
        "asked": {a.arm.name: found for a in answers if (found := self_asked(a.items))},
        "audit": _audit(run, words),
        "captions": {name: _captions(told[name]) for name in ("start", "trained") if name in told},
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
    primary = metrics.get("primary") or "chair_i"
    names = [name for name in HEADLINE if _shown(arms, name)]
    width = max(14, *map(len, names)) if names else 14
    for name in names:
        told = [arms[arm] for arm in ("start", "trained", "start_filter") if arm in arms]
        cells = [f"{arm['name']} {_number(arm['measures'][name])}" for arm in told if arm["measures"].get(name)]
        lines.append(f"  {name:<{width}} " + "   ".join(cells))
    envelope = metrics.get("envelope")
    if envelope and envelope["value"] is not None:
        lines.append(
            f"  against the untrained model's lower envelope at the same recall: {envelope['value']:+.3f} "
            f"[{envelope['low']:+.3f}, {envelope['high']:+.3f}] {primary}"
        )
    elif envelope:
        lines.append(f"  no contrast with the untrained envelope: {envelope['reason']}")
    return lines


HEADLINE = (
    *("chair_i", "chair_s", "recall", "contradiction"),
    *("event_chair_i", "event_recall", "order_accuracy", "reversal_agreement"),
    *("event_questions", "event_questions/both_right", "event_questions/yes_difference", "order_questions/both_right"),
    *("questions", "questions/both_right", "questions_answerable", "questions_fit_wrong_clip"),
    *("kl_per_token", "count"),
)
"""Measures told at the end of a run, where there are any."""


def read_told(answers: Answers, samples: Sequence[Sample], words: Vocabulary) -> Told:
    """An arm's descriptions, their claims read once for all metrics."""
    texts = [(s.id, answers.captions[s.id].answer, s.truth) for s in samples if s.id in answers.captions]
    events = words.event_words
    return Told(
        read([(sample, text, objects_of(truth)) for sample, text, truth in texts], words),
        narrate(texts, words, events) if events else [],
    )


def measures_of(answers: Answers, told: Told, samples: Sequence[Sample]) -> dict[str, Measure]:
    """All measures of an arm that can be known of these samples."""
    objects = any(objects_of(sample.truth) for sample in samples)
    events = any(knows_events(sample.truth) for sample in samples)
    found = {name: m for name, m in caption_measures(told.described).items() if objects or name in WITHOUT_TRUTH}
    if told.narrated:
        of_events = event_measures(told.narrated)
        found |= {name: m for name, m in of_events.items() if events or name in EVENTS_WITHOUT_TRUTH}
    return found | probe_measures(answers.items)


def primary_of(start: Mapping[str, Measure]) -> str:
    """Event CHAIR where it is known what happens, else CHAIR of things: named by the data, not by what came out."""
    known = start.get("event_recall")
    return "event_chair_i" if known and known.den else "chair_i"


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
        "x": {"temperature": arm.temperature, "sentences": arm.sentences, "round": arm.round},
        "measures": {name: plain(found) for name, found in estimates.items() if found},
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
                found.append({"measure": name, "of": of, "against": against, **plain(change), "p": p})
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
    answers: Sequence[Answers], measures: Mapping[str, Mapping[str, Measure]], primary: str, draws: int, seed: int
) -> dict[str, Any] | None:
    recall = PRIMARY[primary]

    def point(name: str) -> Point:
        return Point(name, measures[name][primary], measures[name][recall])

    controls = [a.arm.name for a in answers if a.arm.kind in {"start", "curve"} and primary in measures[a.arm.name]]
    if len(controls) < 2 or primary not in measures.get("trained", {}):
        return None
    found = envelope_difference([point(name) for name in controls], point("trained"), draws, seed=seed)
    value = plain(found.difference) if found.difference else {"value": None, "low": None, "high": None}
    reached = measures["trained"][recall].value
    return {"measure": primary, "recall": reached, "control": found.envelope, "reason": found.reason or None, **value}


def _parts(
    run: Run, answers: Sequence[Answers], told: Mapping[str, Told], samples: Sequence[Sample], draws: int
) -> list[dict[str, Any]]:
    """By length of clip and number of frames: a row for each measure, way and part, with the arms' estimates."""
    seconds = {s.id: s.truth.get("duration") for s in samples if isinstance(s.truth, Mapping)}
    shown = run.settings.model.media.frames or FRAMES
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in answers:
        if one.arm.probed:
            found = probe_parts(one.items, shown)
            lengths = divided(told[one.arm.name].narrated, lambda t: band(seconds.get(t.clip)), event_chair_i)
            found |= {"event_chair_i": {"length": lengths}} if len(lengths) > 1 else {}
            for name, ways in found.items():
                for way, parts in ways.items():
                    for part, measured in parts.items():
                        value = estimate(measured, draws, seed=run.settings.seed)
                        rows.setdefault((name, way, part), {})[one.arm.name] = plain(value) if value else None
    return [{"measure": name, "by": way, "part": part, "arms": arms} for (name, way, part), arms in rows.items()]


def _audit(run: Run, words: Vocabulary) -> dict[str, Any] | None:
    """Of the last fit's pairs."""
    fits = [(r, s) for r in range(run.settings.rounds) for s in run.stages if s.kind == "fit" and s.runs_in(r)]
    rows = run.output(fits[-1][1].rows[0], fits[-1][0]).rows if fits else None
    pairs = [row for row in rows or () if isinstance(row, Pair)]
    wanted = {row.origin.sample for row in pairs}
    return audit(pairs, {s.id: s.truth for s in run.samples if s.id in wanted} if wanted else {}, words)


def _captions(told: Told) -> dict[str, Any]:
    events = {one.clip: one for one in told.narrated}
    return {one.sample: _caption(one, events.get(one.sample)) for one in told.described[:SHOWN]}


def _caption(one: Described, events: Narrated | None) -> dict[str, Any]:
    false = [(c.start, c.end) for c in one.mentions if one.truth and one.is_false(c)]
    if events and events.events:
        false += [(c.start, c.end) for c in events.told if events.is_false(c)]
    return {"text": one.text, "false": [list(span) for span in sorted(false)]}


def _item_lines(measures: Mapping[str, Mapping[str, Measure]]) -> Iterable[str]:
    for arm, found in measures.items():
        for name, measured in found.items():
            for item in measured.items:
                row = {"arm": arm, "measure": name, "sample": item.cluster, "num": item.num, "den": item.den}
                yield json.dumps(row) + "\n"


def plain(found: Estimate) -> dict[str, Any]:
    """An estimate as ``metrics.json`` has it."""
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _shown(arms: Mapping[str, Any], name: str) -> bool:
    return any((arms.get(arm, {}).get("measures") or {}).get(name) for arm in ("start", "trained"))


def _number(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
