"""What is read out of free text; what cannot be read is a Drop and never a value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.parse import parse_json, parse_list, parse_number, parse_yes_no


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. a cat\n2. a dog", ["a cat", "a dog"]),
        ("1) a\n2) b", ["a", "b"]),
        ("(1) a\n(2) b", ["a", "b"]),
        ("- a\n* b\n• c", ["a", "b", "c"]),
        ("Here they are:\n- a\n- b\nThat is all.", ["a", "b"]),
        ("a\n\nb\n", ["a", "b"]),
        ("- a\n- a\n- b", ["a", "b"]),
        ("2.5 cats\n-3 dogs", ["2.5 cats", "-3 dogs"]),
        ("- \n- a", ["a"]),
        ("**bold** a\nb", ["**bold** a", "b"]),
    ],
)
def test_lists(text, items):
    assert parse_list(text) == items


def test_lists_are_cut_after_duplicates_are_gone():
    assert parse_list("- a\n- a\n- b\n- c", at_most=2) == ["a", "b"]


@pytest.mark.parametrize("text", ["", "  \n ", "- \n* "])
def test_no_list(text):
    with pytest.raises(Drop, match="expected a list"):
        parse_list(text)


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1, unique=True))
def test_every_way_to_mark_a_list_reads_the_same(items):
    numbered = "\n".join(f"{i}. {item}" for i, item in enumerate(items, start=1))
    assert parse_list(numbered) == parse_list("\n".join(f"- {item}" for item in items)) == items


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure:\n```json\n{"a": [1, 2]}\n```\nDone.', {"a": [1, 2]}),
        ('I think {maybe} {"a": 1} or so', {"a": 1}),
        ("[1, 2] and [3]", [1, 2]),
    ],
)
def test_json(text, value):
    assert parse_json(text) == value


@pytest.mark.parametrize("text", ["", "no braces", "{broken", "[" * 100_000, '{"a":' * 5000])
def test_no_json(text):
    with pytest.raises(Drop, match="expected JSON"):
        parse_json(text)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers())))
def test_any_json_object_is_found_in_prose(value):
    assert parse_json(f"The answer is {json.dumps(value)} as asked.") == value


@pytest.mark.parametrize(
    ("text", "yes"),
    [("Yes.", True), ("no", False), ("**Yes**, there is.", True), ("Well, NO way, yes?", False), ("I know: yes", True)],
)
def test_yes_no(text, yes):
    assert parse_yes_no(text) is yes


@pytest.mark.parametrize("text", ["", "maybe", "yesterday", "nothing"])
def test_neither_yes_nor_no(text):
    with pytest.raises(Drop, match="yes or no"):
        parse_yes_no(text)


@pytest.mark.parametrize(
    ("text", "number"), [("8", 8), ("Score: 7.5.", 7.5), ("-1", -1), ("I say 7, yes 7.", 7), ("**9**", 9), ("(3)", 3)]
)
def test_numbers(text, number):
    assert parse_number(text, -10, 10) == number


@pytest.mark.parametrize(
    "text", ["", "eight", "8/10", "7 or 8", "11", "-11", "8.5a", "3.5x", "8.5.2", "x8", "1" * 400, "1,000"]
)
def test_no_number(text):
    with pytest.raises(Drop, match="one number from -10 to 10"):
        parse_number(text, -10, 10)


@given(st.floats(0, 10).map(lambda value: round(value, 3)))
def test_a_number_in_a_sentence(number):
    assert parse_number(f"I give it {number:.3f} points.", 0, 10) == number
