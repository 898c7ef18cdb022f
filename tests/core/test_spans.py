"""Differing words of two answers, as characters."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.spans import differing_spans, replaced

words = st.lists(st.sampled_from(["a", "cat", "dog", "sits", "on", "the", "mat", ".", "ünï"]), max_size=12).map(
    " ".join
)


def marked(text, spans):
    return [text[start:end] for start, end in spans]


def rest(text, spans):
    """The words outside the spans."""
    kept, place = "", 0
    for start, end in spans:
        kept, place = kept + text[place:start], end
    return (kept + text[place:]).split()


@pytest.mark.parametrize(
    ("chosen", "rejected", "left", "right"),
    [
        ("a cat sits", "a dog sits", ["cat"], ["dog"]),
        ("a cat sits", "a big black cat sits", [], ["big black"]),
        ("a cat", "a cat sits here", [], ["sits here"]),
        ("one two", "three four", ["one two"], ["three four"]),
        ("a  cat", "a cat", [], []),
        ("", "a", [], ["a"]),
        ("", "", [], []),
        ("A cat. A dog.", "A cat. A bird.", ["dog."], ["bird."]),
    ],
)
def test_known_cases(chosen, rejected, left, right):
    spans = differing_spans(chosen, rejected)
    assert (marked(chosen, spans[0]), marked(rejected, spans[1])) == (left, right)


@given(words, words)
def test_outside_the_spans_both_say_the_same(chosen, rejected):
    left, right = differing_spans(chosen, rejected)
    assert rest(chosen, left) == rest(rejected, right)


@given(words, words)
def test_spans_are_whole_words_in_order_and_apart(chosen, rejected):
    for text, spans in zip((chosen, rejected), differing_spans(chosen, rejected), strict=True):
        assert all(span == span.strip() and span for span in marked(text, spans))
        assert all(text[:start][-1:].strip() == "" and text[end:][:1].strip() == "" for start, end in spans)
        assert all(one[1] < other[0] for one, other in itertools.pairwise(spans))


@given(words)
def test_equal_texts_have_none(text):
    assert differing_spans(text, text) == ((), ())


def test_frequent_words_are_words_too():
    text = "the " * 300
    left, right = differing_spans(text + "cat", text + "dog")
    assert marked(text + "cat", left) == ["cat"] and marked(text + "dog", right) == ["dog"]


@given(words, words, st.data())
def test_replaced_is_exact(text, new, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    changed, (a, b) = replaced(text, (start, end), new)
    assert changed[a:b] == new and changed[:a] + changed[b:] == text[:start] + text[end:]


def test_long_answers_are_aligned_in_time():
    start = time.process_time()
    differing_spans(" ".join(map(str, range(2000))), " ".join(map(str, range(1000, 3000))))
    assert time.process_time() - start < 2
