"""Dialogues by hand: next() to hear what is asked, send() to answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.errors import Drop, RequestFailed
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import Failed, Generate, Text
from vlm_selfalign.core.steps import ask, ask_all, together


def question(text):
    return Generate(prompt=Prompt.user(text))


def echo(requests):
    return [Text(text=request.prompt.question) for request in requests]


def driven(steps):
    """The result of a dialogue that hears its own questions back, and how many questions each turn had."""
    turns, replies = [], None
    while True:
        try:
            asked = next(steps) if replies is None else steps.send(replies)
        except StopIteration as done:
            return done.value, turns
        turns.append(len(asked))
        replies = echo(asked)


def test_ask_yields_one_request_and_returns_its_reply():
    steps = ask(question("a"))
    assert next(steps) == [question("a")]
    with pytest.raises(StopIteration) as done:
        steps.send([Text(text="b")])
    assert done.value.value.text == "b"


def test_ask_all_keeps_the_order_and_takes_any_iterable():
    replies, turns = driven(ask_all(question(text) for text in "abc"))
    assert [reply.text for reply in replies] == ["a", "b", "c"] and turns == [3]


def test_nothing_to_ask_is_no_turn():
    assert driven(ask_all([])) == ([], [])
    assert driven(together()) == ([], [])


@pytest.mark.parametrize("steps", [ask(question("a")), ask_all([question("a")])])
def test_a_failed_reply_raises_with_its_reason(steps):
    next(steps)
    with pytest.raises(RequestFailed, match="too long"):
        steps.send([Failed(reason="too long")])


def chain(name, length):
    heard = []
    for i in range(length):
        heard.append((yield from ask(question(f"{name}{i}"))).text)
    return heard


@given(st.lists(st.integers(0, 5), max_size=6))
def test_together_runs_side_by_side_and_keeps_apart(lengths):
    results, turns = driven(together(*(chain(f"{place}.", length) for place, length in enumerate(lengths))))
    assert results == [[f"{place}.{i}" for i in range(length)] for place, length in enumerate(lengths)]
    assert turns == [sum(length > turn for length in lengths) for turn in range(max(lengths, default=0))]


def test_together_nests():
    inner = together(chain("a", 2), together(chain("b", 1), chain("c", 3)))
    results, turns = driven(together(inner, chain("d", 1)))
    assert results == [[["a0", "a1"], [["b0"], ["c0", "c1", "c2"]]], ["d0"]]
    assert turns == [4, 2, 1]


def test_a_part_may_ask_nothing_for_a_turn():
    def pausing():
        assert (yield []) == []
        return (yield from ask(question("late"))).text

    assert driven(together(pausing(), chain("a", 2))) == (["late", ["a0", "a1"]], [1, 2])


def test_a_drop_in_one_part_reaches_the_caller_who_may_cope():
    def hopeless():
        yield from ask(question("a"))
        raise Drop("no list")

    def coping():
        try:
            yield from together(hopeless(), chain("b", 2))
        except Drop as drop:
            return drop.reason

    assert driven(coping()) == ("no list", [2])


def test_a_drop_before_the_first_question_is_a_drop_too():
    def hopeless():
        raise Drop("at once")
        yield

    with pytest.raises(Drop, match="at once"):
        next(together(chain("a", 1), hopeless()))
