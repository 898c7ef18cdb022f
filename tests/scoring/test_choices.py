import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.scoring.choices import read_choice

BALL = {"A": "dunking a basketball", "B": "dribbling a basketball", "C": "passing a basketball"}
CAPTIONS = {"Option 1": "The man is dribbling.", "Option 2": "A man is dunking."}


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "B)", "[B]", "**B**", "B</s>", "B:", "Option B", "Answer: B",
                                    "The answer is B", "The best answer is (B).", "Best option: B"])  # fmt: skip
def test_a_label_alone(answer):
    assert read_choice(answer, BALL) == "B"


@pytest.mark.parametrize(
    "answer",
    [
        "B. dribbling a basketball",
        "(B) Dribbling a basketball.",
        "B - dribbling a basketball",
        "B: dribbling",
        "B\nThe man dribbles, as A dunk looks different.",
        "I think the answer is: (B) dribbling a basketball",
        "A basketball is dribbled. The answer is B.",
    ],
)
def test_a_label_with_text(answer):
    assert read_choice(answer, BALL) == "B"


@pytest.mark.parametrize(
    "answer", ["dribbling a basketball", "Dribbling a basketball.", "The answer is dribbling a basketball."]
)
def test_the_text_alone(answer):
    assert read_choice(answer, BALL) == "B"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "D",
        "A or B",
        "A, B",
        "A. B",
        "ABC",
        "A dog runs",
        "A man is dribbling",
        "The man is dribbling a basketball",
        "B. passing a basketball",
        "It is not A.",
        "None of A, B or C",
        "The answer is A. The answer is B.",
        "The answer is B, or C",
        "Option A or option B",
        "I cannot tell.",
    ],
)
def test_what_is_not_clear_is_not_guessed(answer):
    assert read_choice(answer, BALL) is None


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Option 1", "Option 1"),
        ("2.", "Option 2"),
        ("Option 2: A man is dunking.", "Option 2"),
        ("A man is dunking.", "Option 2"),
        ("Option 1: A man is dunking.", None),
        ("Option 1 or Option 2", None),
    ],
)
def test_labels_of_two_words(answer, label):
    assert read_choice(answer, CAPTIONS) == label


def test_options_with_the_same_text_need_their_label():
    same = {"A": "left", "B": "left"}
    assert read_choice("left", same) is None and read_choice("B", same) == "B"


texts = st.lists(
    st.text("abcdefg ", min_size=1, max_size=12).map(str.strip).filter(bool), min_size=2, max_size=4, unique=True
)


@given(texts, st.data())
def test_every_option_is_read_however_it_is_written(options, data):
    labelled = dict(zip("WXYZ", options, strict=False))
    label = data.draw(st.sampled_from(sorted(labelled)))
    for answer in (label, f"({label})", f"{label}. {labelled[label]}", f"The answer is {label}."):
        assert read_choice(answer, labelled) == label


@given(st.text(max_size=60))
def test_any_answer_is_one_of_the_labels_or_none(answer):
    assert read_choice(answer, BALL) in {*BALL, None}
    assert read_choice(answer, CAPTIONS) in {*CAPTIONS, None}
