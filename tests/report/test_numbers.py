"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from vlm_selfalign.report import numbers


@pytest.mark.parametrize(("name", "value", "text"), [
    ("chair_i", 0.0312, "3.1 %"), ("chair_i", 0.0003, "0.03 %"), ("chair_i", 0.0, "0.0 %"), ("length", 23.44, "23.4"),
    ("kl_per_token", -0.0004, "-0.0004"), ("kl_per_token", 0.0831, "0.083"), ("something_else", 2.0, "2.0"),
])  # fmt: skip
def test_values(name: str, value: float, text: str) -> None:
    assert numbers.value(name, {"value": value}).replace(numbers.MINUS, "-") == text


@pytest.mark.parametrize("estimate", [None, {}, {"value": None}, {"value": math.nan}])
def test_nothing_measured_is_a_dash(estimate: dict[str, float | None] | None) -> None:
    assert numbers.value("chair_i", estimate) == numbers.DASH and numbers.interval("chair_i", estimate) == ""


def test_differences_of_shares_are_points() -> None:
    estimate = {"value": -0.0594, "low": -0.069, "high": 0.049}
    assert numbers.difference("chair_i", estimate).replace(numbers.MINUS, "-") == "-5.9 points [-6.9, +4.9]"
    assert numbers.difference("length", {"value": 1.25}) == "+1.2"


def test_an_interval_that_touches_zero_decides_nothing() -> None:
    assert numbers.direction({"value": -1, "low": -2, "high": 0.0}) == "open"
    assert numbers.direction({"value": -1}) == "open"
    assert numbers.verdict("recall", {"value": -1, "low": -2, "high": -0.1}) == "bad"
    assert numbers.verdict("chair_i", {"value": -1, "low": -2, "high": -0.1}) == "good"
    assert numbers.verdict("length", {"value": -1, "low": -2, "high": -0.1}) == ""


@pytest.mark.parametrize(("amount", "text"), [
    (0.0123, "0.012 s"), (0.1, "0.10 s"), (4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"),
])  # fmt: skip
def test_seconds(amount: float, text: str) -> None:
    assert numbers.seconds(amount) == text


def test_p_values() -> None:
    assert [numbers.p_value(p) for p in (None, 0.0, 0.0031, 0.04)] == [numbers.DASH, "< 0.0001", "0.0031", "0.04"]
