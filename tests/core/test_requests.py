"""Requests and replies: what counts for identity, what survives the disk."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import (
    REPLIES,
    Call,
    Choose,
    Chosen,
    Embed,
    Failed,
    Generate,
    Ground,
    Sampling,
    Score,
    Scored,
    Text,
    Value,
)

ASKED = Prompt.user("q")
PHOTO = Media(kind="image", uri="a.png", content_hash="aa")


def test_default_roles():
    assert [r.to for r in (Generate(prompt=ASKED), Choose(prompt=ASKED), Score(prompt=ASKED, answer="a"))] == [
        "policy"
    ] * 3
    assert Embed(items=("a", PHOTO)).to == Ground(text="a", media=PHOTO).to == "clip"
    assert Call(arguments={"code": "1"}).to == "tool"


def test_only_sampling_draws():
    assert Generate(prompt=ASKED, sampling=Sampling(temperature=0.1)).draws
    greedy = [Generate(prompt=ASKED, draw=3), Choose(prompt=ASKED), Score(prompt=ASKED, answer="a"), Call()]
    assert not any(request.draws for request in greedy)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}, {"max_tokens": 0}, {"heat": 1}]
)
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(ValidationError):
        Sampling(**wrong)


def test_equal_numbers_have_equal_digests():
    assert Sampling(temperature=1).digest == Sampling(temperature=1.0).digest
    assert Call(arguments={"a": 1, "b": 2}).digest == Call(arguments={"b": 2, "a": 1}).digest


@pytest.mark.parametrize("other", [[["a", 1]], {"a": "1"}, {"a": 1.5}, {"a": [1]}, {"a": None}, {"a": {"a": 1}}, None])
def test_different_arguments_have_different_digests(other):
    assert Call(arguments={"a": 1}).digest != Call(arguments=other).digest


def test_a_requests_kind_counts():
    assert Generate(prompt=ASKED).digest != Choose(prompt=ASKED).digest


numbers = st.floats(allow_nan=False)


@given(st.lists(numbers, min_size=1, max_size=4), st.text(), st.lists(st.integers(0, 10**6), max_size=4))
def test_replies_survive_the_disk(values, text, ids):
    reward = {"a": [values[0], text]}
    replies = [
        Text(text=text, ids=tuple(ids), finish="stop", logprobs=tuple(values), certainty=None),
        Chosen(choices=tuple(map(str, values)), logprobs=tuple(values)),
        Scored(ids=tuple(ids), logprobs=tuple(values), hidden=(tuple(values),), top_k=(((3, values[0]),),)),
        Value(value=reward),
        Failed(reason=text),
    ]
    for reply in replies:
        assert REPLIES[type(reply).__name__].model_validate_json(reply.model_dump_json()) == reply


def test_a_choice_of_probability_zero_survives_the_disk():
    chosen = Chosen(choices=("Yes", "No"), logprobs=(0.0, -math.inf))
    assert Chosen.model_validate_json(chosen.model_dump_json()) == chosen


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=6))
def test_probs_are_a_softmax_and_best_is_the_first_highest(logprobs):
    choices = tuple("abcdef"[: len(logprobs)])
    chosen = Chosen(choices=choices, logprobs=tuple(logprobs))
    assert sum(chosen.probs) == pytest.approx(1)
    assert chosen.best == choices[logprobs.index(max(logprobs))]
    for choice, logprob in zip(choices, logprobs, strict=True):
        odds = math.exp(logprob - logprobs[0])
        assert chosen.prob(choice) == pytest.approx(odds * chosen.prob("a"), rel=1e-9, abs=1e-12)


def test_choices_that_are_all_impossible_are_equally_likely():
    assert Chosen(choices=("a", "b"), logprobs=(-math.inf, -math.inf)).probs == (0.5, 0.5)
