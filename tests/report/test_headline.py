"""The sentences say what the intervals allow, no more."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_selfalign.report.headline import Measured, headline, levels
from vlm_selfalign.report.numbers import MINUS

from . import made


def said(metrics: dict[str, Any]) -> dict[str, str]:
    return {sentence.text.replace(MINUS, "-"): sentence.tone for sentence in headline(Measured(metrics)).sentences}


def with_envelope(value: float | None, half: float = 0.01, **more: Any) -> dict[str, Any]:
    estimate = made.estimate(value, half) if value is not None else {"value": None, "low": None, "high": None}
    return made.metrics(0) | {"envelope": {"measure": "chair_i", "recall": 0.976, "reason": None, **estimate, **more}}


@pytest.mark.parametrize(("value", "words", "tone"), [
    (-0.05, "lower than the untrained envelope at the same recall: difference -5.0 points [-6.0, -4.0].", "good"),
    (0.05, "higher than the untrained envelope at the same recall: difference +5.0 points [+4.0, +6.0].", "bad"),
    (-0.004, "not distinguishable from the untrained envelope at the same recall: difference -0.4 points "
             "[-1.4, +0.6].", "open"),
])  # fmt: skip
def test_against_the_envelope(value: float, words: str, tone: str) -> None:
    assert said(with_envelope(value))[f"That is {words}"] == tone


def test_no_envelope_is_no_praise() -> None:
    missing = said(made.metrics(0) | {"envelope": None})
    assert missing[
        "It was not compared with the untrained envelope at the same recall: decoding alone might do as well."
    ]
    outside = said(with_envelope(None, reason="recall 0.200 is outside the controls'"))
    assert any("(recall 0.200 is outside the controls')" in text for text in outside)
    other = said(with_envelope(-0.05, measure="chair_s"))
    assert any("It was not compared" in text for text in other)


@pytest.mark.parametrize(("value", "half", "word", "tone"), [
    (-0.005, 0.01, "Recall is kept", "good"),
    (-0.015, 0.01, "Recall is not shown to be kept", "open"),
    (-0.1, 0.01, "Recall is lost", "bad"),
])  # fmt: skip
def test_recall_is_judged_by_its_lower_bound(value: float, half: float, word: str, tone: str) -> None:
    metrics = made.metrics(0)
    moved = {"measure": "recall", "of": "trained", "against": "start", **made.estimate(value, half)}
    metrics["differences"] = [d for d in metrics["differences"] if d["measure"] != "recall"] + [moved]
    assert [t for text, t in said(metrics).items() if text.startswith(word)] == [tone]


@pytest.mark.parametrize(("value", "words"), [
    (0.02, "does not reach that"), (-0.02, "does better still"), (0.001, "cannot be told from that"),
])  # fmt: skip
def test_against_the_own_filter(value: float, words: str) -> None:
    metrics = made.metrics(0)
    against = {"measure": "chair_i", "of": "trained", "against": "start_filter", **made.estimate(value, 0.01)}
    metrics["differences"] = [against]
    (text,) = (text for text in said(metrics) if text.startswith("Without any training"))
    assert words in text


def test_without_an_estimated_difference_nothing_is_concluded() -> None:
    sentences = said(made.metrics(0) | {"differences": []})
    assert not any("fell" in text or "Recall" in text for text in sentences)
    (text,) = (text for text in sentences if text.startswith("Without any training"))
    assert text.endswith("instead of 1.0 and 0.018 s.")


def test_the_envelope_stands_at_trained_minus_difference() -> None:
    placed = {label: estimate["value"] for label, _, estimate in levels(Measured(with_envelope(-0.05)))}
    assert placed["same recall, untrained"] == pytest.approx(0.031 + 0.05)


def test_the_last_trained_arm_counts() -> None:
    metrics = made.metrics(0)
    metrics["arms"].append({**metrics["arms"][1], "name": "trained_round_2"})
    trained = Measured(metrics).trained
    assert trained is not None and trained["name"] == "trained_round_2"
