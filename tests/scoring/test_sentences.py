import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.scoring.sentences import split_sentences


def pieces(text, **kwargs):
    return [text[start:end].strip() for start, end in split_sentences(text, **kwargs)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog sits. It is 2.5 m long!", ["A dog sits.", "It is 2.5 m long!"]),
        ("Mr. Smith sits. He waits.", ["Mr. Smith sits.", "He waits."]),
        ("Cups, plates, etc. are there. A fork too.", ["Cups, plates, etc. are there.", "A fork too."]),
        ("Is there a car? No. There is a bus.", ["Is there a car?", "No.", "There is a bus."]),
        ("It says e.g. this.", ["It says e.g. this."]),
        ('A sign says "Stop." It is red.', ['A sign says "Stop."', "It is red."]),
        ("- a red car\n- a boat", ["- a red car", "- a boat"]),
        ("No end", ["No end"]),
        ("It is red.There is a car.", ["It is red.", "There is a car."]),
        ("Wait... It moves.", ["Wait...", "It moves."]),
    ],
)
def test_english_sentences(text, expected):
    assert pieces(text) == expected


def test_apasi_splits_at_periods_without_digits_beside_them():
    text = "A dog sits. There are 2.5 cats here. It is 3. Then go"
    assert pieces(text, rule="apasi") == ["A dog sits.", "There are 2.5 cats here.", "It is 3. Then go"]
    assert pieces("Mr. X", rule="apasi") == ["Mr.", "X"]


@pytest.mark.parametrize("rule", ["english", "apasi"])
@given(text=st.text(alphabet="aB 1.?!\n,\"'", max_size=60))
def test_spans_cover_the_text_in_order(rule, text):
    spans = split_sentences(text, rule=rule)
    assert "".join(text[start:end] for start, end in spans) == (text if text.strip() else "")
    assert all(text[start:end].strip() for start, end in spans)
