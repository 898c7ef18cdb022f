"""How measured numbers are said: titles, units, intervals, and what an interval does and does not allow to say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

MINUS, DASH = "\u2212", "\u2013"

Better = Literal["lower", "higher"] | None
Unit = Literal["share", "nats", "count", "number"]
Estimate = Mapping[str, Any]
"""``{"value", "low", "high", "n"}`` as in ``metrics.json``; ``low`` and ``high`` may be missing or null."""


@dataclass(frozen=True)
class Measure:
    """A measure as the page names it."""

    title: str
    better: Better = None
    unit: Unit = "number"
    about: str = ""


MEASURES: dict[str, Measure] = {
    "chair_i": Measure("CHAIRᵢ", "lower", "share", "objects named that are not in the picture, of all named"),
    "chair_s": Measure("CHAIRₛ", "lower", "share", "answers naming at least one object that is not there"),
    "recall": Measure("Recall", "higher", "share", "objects in the picture that are named"),
    "length": Measure("Length", None, "number", "words per answer"),
    "unparsed": Measure("Unparsed", "lower", "share", "answers in which no claim could be read"),
    "repetition": Measure("Repetition", "lower", "count", "objects named more than once, per answer"),
    "repeated_sentences": Measure("Repeated sentences", "lower", "share", "sentences that stood before, of all"),
    "wrong_colour": Measure("Wrong colour", "lower", "share", "colours said of present objects that are wrong"),
    "false_denials": Measure("False denials", "lower", "share", "objects denied that are there, of all denied"),
    "contradiction": Measure("Contradiction", "lower", "share", "objects named and then denied when asked back"),
    "existence_random": Measure("Existence, random", "higher", "share", "yes/no accuracy, absent objects at random"),
    "existence_popular": Measure("Existence, popular", "higher", "share", "yes/no accuracy, frequent absent objects"),
    "existence_adversarial": Measure(
        "Existence, adversarial", "higher", "share", "yes/no accuracy, absent objects that often stand beside these"
    ),
    "colour": Measure("Colour", "higher", "share", "accuracy of colour questions"),
    "count": Measure("Count", "higher", "share", "accuracy of counting questions"),
    "kl_per_token": Measure("KL to the start", None, "nats", "nats per token, on the model's own samples"),
    "event_chair_i": Measure("Event CHAIRᵢ", "lower", "share", "events told that did not happen, of all told"),
    "event_chair_s": Measure("Event CHAIRₛ", "lower", "share", "clips of which at least one false event is told"),
    "event_recall": Measure("Event recall", "higher", "share", "events of the clip that are told"),
    "order_accuracy": Measure("Order told", "higher", "share", "pairs of true events told in their order"),
    "wrong_direction": Measure("Wrong direction", "lower", "share", "directions said of what did happen"),
    "false_event_denials": Measure("False event denials", "lower", "share", "events denied that did happen"),
    "events_told": Measure("Events told", None, "count", "per clip"),
    "events_unparsed": Measure("No event read", "lower", "share", "answers in which no event could be read"),
    "reversal_agreement": Measure(
        "Forwards and backwards", "higher", "share", "how far a clip and its reverse are told as each other's reverse"
    ),
    "event_questions": Measure("Did it happen", "higher", "share", "yes/no accuracy about events"),
    "order_questions": Measure("In this order", "higher", "share", "yes/no accuracy about the order of two events"),
    "questions": Measure("Questions", "higher", "share", "accuracy of the data's own questions"),
    "questions_unread": Measure("Own questions, unread", "lower", "share", "replies that hold no question"),
    "questions_answerable": Measure(
        "Own questions, answerable", "higher", "share", "questions it asks itself that the clip answers"
    ),
    "questions_fit_wrong_clip": Measure(
        "Own questions, fit another clip", "lower", "share", "of which a clip they were not asked of answers as well"
    ),
}

OF_QUESTIONS: dict[str, Measure] = {
    "both_right": Measure("both right", "higher", "share", "pairs of which both questions are answered rightly"),
    "mean_of_sets": Measure("mean of sets", "higher", "share", "pairs both right, averaged over sets"),
    "hallucinated": Measure("hallucinated", "lower", "share", "second question wrong though the basic one is right"),
    "reversal_consistency": Measure("reversal", "higher", "share", "answers that turn with the clip as the truth does"),
    "yes_difference": Measure("lean to yes", None, "share", "yes said minus yes right; 0 without bias"),
    "no_difference": Measure("lean to no", None, "share", "no said minus no right; 0 without bias"),
    "false_positive_ratio": Measure("wrong that are yes", None, "share", "of the wrong answers; half without bias"),
    "unparsed": Measure("unread", "lower", "share", "answers that could not be read"),
}
"""What is measured of questions besides how many are right, after the name of the questions and a stroke."""


def measure(name: str) -> Measure:
    """What is known of a measure; an unknown one is a plain number under its own name."""
    of, _, what = name.partition("/")
    if what in OF_QUESTIONS:
        return replace(OF_QUESTIONS[what], title=f"{measure(of).title}, {OF_QUESTIONS[what].title}")
    return MEASURES.get(name) or Measure(name.replace("_", " ").capitalize())


def known(estimate: Estimate | None, *keys: str) -> bool:
    """Is there a finite number under ``value`` (or under all of ``keys``)?"""
    return estimate is not None and all(_finite(estimate.get(key)) for key in keys or ("value",))


def number(name: str, value: float, signed: bool = False) -> str:
    """``0.0312`` of a share as ``3.1``, nats with three decimals; with a real minus sign."""
    unit = measure(name).unit
    scaled = 100 * value if unit == "share" else value
    digits = {"share": 1, "nats": 3, "count": 2, "number": 1}[unit]
    if 0 < abs(scaled) < 0.5 * 10**-digits:
        digits += 1
    text = f"{scaled:+.{digits}f}" if signed else f"{scaled:.{digits}f}"
    return text.replace("-", MINUS)


def value(name: str, estimate: Estimate | None) -> str:
    """``3.1 %``, or a dash where nothing was measured."""
    if estimate is None or not known(estimate):
        return DASH
    return number(name, estimate["value"]) + (" %" if measure(name).unit == "share" else "")


def interval(name: str, estimate: Estimate | None) -> str:
    """``[2.6, 3.7]``, or nothing without both ends."""
    if estimate is None or not known(estimate, "low", "high"):
        return ""
    return f"[{number(name, estimate['low'])}, {number(name, estimate['high'])}]"


def difference(name: str, estimate: Estimate) -> str:
    """``−5.9 points [−6.9, −4.9]``; a share differs in points."""
    unit = " points" if measure(name).unit == "share" else ""
    ends = ""
    if known(estimate, "low", "high"):
        ends = f" [{number(name, estimate['low'], True)}, {number(name, estimate['high'], True)}]"
    return f"{number(name, estimate['value'], True)}{unit}{ends}"


def direction(estimate: Estimate) -> Literal["lower", "higher", "open"]:
    """What a difference's interval allows to say: it excludes zero, or the matter is open."""
    if known(estimate, "high") and estimate["high"] < 0:
        return "lower"
    if known(estimate, "low") and estimate["low"] > 0:
        return "higher"
    return "open"


def verdict(name: str, estimate: Estimate) -> Literal["good", "bad", "open", ""]:
    """Is a difference an improvement? ``""`` where a measure has no better side."""
    found, better = direction(estimate), measure(name).better
    if found == "open" or better is None:
        return "open" if found == "open" else ""
    return "good" if found == better else "bad"


def p_value(p: float | None) -> str:
    """``0.03``, ``< 0.0001``, or a dash."""
    if not _finite(p):
        return DASH
    assert p is not None
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def seconds(amount: float) -> str:
    """``0.012 s``, ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if amount < 0.0995:
        return f"{amount:.3f} s"
    if amount < 100:
        return f"{amount:.2f} s" if amount < 1 else f"{amount:.1f} s"
    minutes, rest = divmod(round(amount), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
