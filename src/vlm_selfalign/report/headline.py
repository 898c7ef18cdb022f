"""What a run may claim, in sentences made from its numbers: the change, the controls without training, the price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vlm_selfalign.report.numbers import (
    Estimate,
    difference,
    direction,
    interval,
    known,
    measure,
    number,
    seconds,
    value,
    verdict,
)

RECALL_BOUND = -0.02
"""Recall counts as kept when the lower end of its change is above this (set before anything was measured)."""

Tone = Literal["good", "bad", "open", ""]


@dataclass(frozen=True)
class Figure:
    """One big number: what it is of, the value with its interval, and small print."""

    label: str
    value: str
    interval: str = ""
    tone: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sentence:
    """One sentence and whether it is good news."""

    text: str
    tone: Tone = ""


@dataclass
class Headline:
    """The top of the page: before and after, the controls beside them, and the sentences."""

    measure: str = ""
    about: str = ""
    before_after: list[Figure] = field(default_factory=list)
    controls: list[Figure] = field(default_factory=list)
    also: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(measure, before, after, difference) of what else moved or should not have."""
    sentences: list[Sentence] = field(default_factory=list)


class Measured:
    """The content of ``metrics.json`` by what is asked of it; anything may be missing."""

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self.metrics = metrics
        self.arms: list[dict[str, Any]] = [
            {
                **arm,
                "title": arm.get("title") or arm["name"],
                "measures": arm.get("measures") or {},
                "cost": arm.get("cost") or {},
            }
            for arm in metrics.get("arms") or ()
        ]
        self.differences: list[Mapping[str, Any]] = [d for d in metrics.get("differences") or () if known(d)]
        self.start, self.filter = self._first("start"), self._first("filter")
        trained = [arm for arm in self.arms if arm["kind"] == "trained"]
        self.trained: dict[str, Any] | None = trained[-1] if trained else None
        envelope = metrics.get("envelope")
        # A control of another measure says nothing about this one.
        fits = envelope and envelope.get("measure", self.primary) == self.primary
        self.envelope: Mapping[str, Any] | None = envelope if fits else None

    @property
    def primary(self) -> str:
        """The measure named beforehand, if any arm has it."""
        wanted = self.metrics.get("primary") or "chair_i"
        return wanted if any(known(arm["measures"].get(wanted)) for arm in self.arms) else ""

    @property
    def recall(self) -> str:
        """The recall that goes with the primary measure."""
        return self.metrics.get("recall") or "recall"

    @property
    def noun(self) -> str:
        """What a sample shows, in a word."""
        return {"clip": "clip"}.get(str(self.metrics.get("place")), "picture")

    @property
    def measures(self) -> list[str]:
        """All measures that any arm has, in the order of their first arm."""
        return list(dict.fromkeys(n for arm in self.arms for n, e in arm["measures"].items() if known(e)))

    def difference(self, name: str, of: Mapping[str, Any] | None, against: Mapping[str, Any] | None) -> Estimate | None:
        """The difference of two arms in one measure, if it was estimated."""
        if of is None or against is None:
            return None
        wanted = (name, of["name"], against["name"])
        return next((d for d in self.differences if (d["measure"], d["of"], d["against"]) == wanted), None)

    def _first(self, kind: str) -> dict[str, Any] | None:
        return next((arm for arm in self.arms if arm["kind"] == kind), None)


def headline(measured: Measured) -> Headline:
    """The top of the page; empty when nothing was measured."""
    name = measured.primary
    if not name:
        return Headline(also=_also(measured, ""))
    said = [_change(measured, name), _against_envelope(measured, name), *_recall(measured, name)]
    said += [_against_filter(measured, name)]
    return Headline(
        measure(name).title,
        measure(name).about,
        _before_after(measured, name),
        _controls(measured, name),
        _also(measured, name),
        [sentence for sentence in said if sentence],
    )


def levels(measured: Measured) -> list[tuple[str, str, Estimate]]:
    """(label, kind of arm, estimate) of what the headline compares, for one axis."""
    name = measured.primary
    arms = (("before", measured.start), ("after training", measured.trained), ("own filter", measured.filter))
    found = [(label, arm["kind"], arm["measures"][name]) for label, arm in arms if arm and _has(arm, name)]
    level = _envelope_level(measured, name)
    if level is not None:
        found.insert(1, ("same recall, untrained", "curve", {"value": level}))
    return found


def _has(arm: Mapping[str, Any], name: str) -> bool:
    return known(arm["measures"].get(name))


def _envelope_level(measured: Measured, name: str) -> float | None:
    """What the untrained envelope reaches at the trained model's recall."""
    envelope, trained = measured.envelope, measured.trained
    if envelope and known(envelope, "control"):
        return envelope["control"]
    if trained is None or not envelope or not known(envelope) or not _has(trained, name):
        return None
    return trained["measures"][name]["value"] - envelope["value"]


def _before_after(measured: Measured, name: str) -> list[Figure]:
    arms = (("before", measured.start), ("after", measured.trained))
    return [
        Figure(label, value(name, arm["measures"].get(name)), interval(name, arm["measures"].get(name)), label)
        for label, arm in arms
        if arm is not None
    ]


def _controls(measured: Measured, name: str) -> list[Figure]:
    figures, level = [], _envelope_level(measured, name)
    envelope, trained, untrained = measured.envelope or {}, measured.trained, measured.filter
    if level is not None:
        at = f" ({number(measured.recall, envelope['recall'])} %)" if known(envelope, "recall") else ""
        notes = ("the least that other decodings of the untrained model reach, by linear interpolation",)
        shown = number(name, level) + (" %" if measure(name).unit == "share" else "")
        figures.append(Figure(f"untrained envelope at the same recall{at}", shown, "", "curve", notes))
    if untrained is not None and _has(untrained, name):
        estimate = untrained["measures"][name]
        notes = tuple(note for note in _price(measured, untrained, trained) if note)
        label = "untrained, own flagged sentences dropped"
        figures.append(Figure(label, value(name, estimate), interval(name, estimate), "filter", notes))
    return figures


def _also(measured: Measured, name: str) -> list[tuple[str, str, str, str]]:
    rows = []
    start, trained = (arm["measures"] if arm else {} for arm in (measured.start, measured.trained))
    for other in measured.measures:
        if other != name and (known(start.get(other)) or known(trained.get(other))):
            moved = measured.difference(other, measured.trained, measured.start)
            change = difference(other, moved) if moved else ""
            rows.append(
                (measure(other).title, value(other, start.get(other)), value(other, trained.get(other)), change)
            )
    return rows


def _change(measured: Measured, name: str) -> Sentence | None:
    moved = measured.difference(name, measured.trained, measured.start)
    if moved is None:
        return None
    found = direction(moved)
    text = {"open": "did not move beyond chance", "lower": "fell", "higher": "rose"}[found]
    return Sentence(f"With training {measure(name).title} {text}: {difference(name, moved)}.", verdict(name, moved))


def _against_envelope(measured: Measured, name: str) -> Sentence | None:
    if measured.trained is None:
        return None
    envelope, what = measured.envelope, "the untrained envelope at the same recall"
    if envelope is None:
        return Sentence(f"It was not compared with {what}: decoding alone might do as well.", "open")
    if not known(envelope):
        reason = envelope.get("reason") or "no value"
        return Sentence(f"It could not be compared with {what} ({reason}): decoding alone might do as well.", "open")
    said = {
        "lower": "lower than",
        "higher": "higher than",
        "open": "not distinguishable from",
    }[direction(envelope)]
    moved = measured.difference(name, measured.trained, measured.start)
    subject = "That" if moved else f"{measure(name).title} after training"
    return Sentence(f"{subject} is {said} {what}: difference {difference(name, envelope)}.", verdict(name, envelope))


def _recall(measured: Measured, name: str) -> list[Sentence]:
    recall = measured.recall
    moved = measured.difference(recall, measured.trained, measured.start)
    if moved is None or name == recall or not known(moved, "low"):
        return []
    title, change = measure(recall).title, difference(recall, moved)
    bound = f"the bound set beforehand is {number(recall, RECALL_BOUND, True)}"
    if moved["low"] > RECALL_BOUND:
        return [Sentence(f"{title} is kept: {change}; {bound}.", "good")]
    if known(moved, "high") and moved["high"] < RECALL_BOUND:
        return [Sentence(f"{title} is lost: {change}; {bound}.", "bad")]
    return [Sentence(f"{title} is not shown to be kept: {change}; {bound}.", "open")]


def _against_filter(measured: Measured, name: str) -> Sentence | None:
    untrained = measured.filter
    if untrained is None or not _has(untrained, name):
        return None
    estimate = untrained["measures"][name]
    reached = f"{value(name, estimate)} {interval(name, estimate)}".strip()
    text = f"Without any training, dropping the sentences that the model itself denies reaches {reached}"
    extra = [part for part in _price(measured, untrained, measured.trained) if part]
    against = measured.difference(name, measured.trained, untrained)
    if against is None:
        return Sentence(f"{text}{_joined(extra)}.")
    found = verdict(name, against)
    said = {"good": "does better still", "bad": "does not reach that", "open": "cannot be told from that"}.get(
        found, "differs"
    )
    # A control that does better is no failure of training, but it must not look like praise either.
    tone: Tone = "good" if found == "good" else "open"
    return Sentence(f"{text}{_joined(extra)}; training {said}: {difference(name, against)}.", tone)


def _joined(parts: Sequence[str]) -> str:
    return "".join(f", {part}" for part in parts)


def _price(measured: Measured, arm: Mapping[str, Any], other: Mapping[str, Any] | None) -> tuple[str, str]:
    """The recall an arm reaches, and what it costs beside another."""
    estimate = arm["measures"].get(measured.recall)
    at = f"at {measure(measured.recall).title.lower()} {value(measured.recall, estimate)}" if known(estimate) else ""
    return at, _cost(arm, other, measured.noun)


def _cost(arm: Mapping[str, Any], other: Mapping[str, Any] | None, noun: str) -> str:
    """``for 5.2 model calls and 0.31 s per picture instead of 1.0 and 0.08 s``."""
    cost, base = arm["cost"], other["cost"] if other else {}
    if not known(cost, "calls_per_sample"):
        return ""
    spent = f"for {cost['calls_per_sample']:.1f} model calls"
    spent += f" and {seconds(cost['seconds_per_sample'])}" if known(cost, "seconds_per_sample") else ""
    text = f"{spent} per {noun}"
    if known(base, "calls_per_sample"):
        text += f" instead of {base['calls_per_sample']:.1f}"
        text += f" and {seconds(base['seconds_per_sample'])}" if known(base, "seconds_per_sample") else ""
    return text
