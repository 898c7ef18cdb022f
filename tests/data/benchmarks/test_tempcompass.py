"""Three tasks by clip and aspect; the same question of a clip and of its reverse is a pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.scoring.closed_questions import question_of

Put = Callable[..., None]

WAY = "Which way does it move?\nA. from left to right\nB. from right to left"
OTHER_WAY = "Which way does it move?\nA. from right to left\nB. from left to right\nC. up"


def q(question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer}


TASKS: dict[str, Any] = {
    "multi-choice": {
        "7": {"direction": [q(WAY, "A. from left to right")], "action": [q("What?\nA. runs\nB. sits", "B. sits")]},
        "7_reverse": {"direction": [q(OTHER_WAY, "A. from right to left")]},
    },
    "yes_no": {
        "7": {"direction": [q("Does it move to the right?", "yes"), q("Up?", "no")]},
        "7_reverse": {"direction": [q("Does it move to the right?", "no")]},
    },
    "caption_matching": {
        "7": {
            "order": [
                q("Which fits?\nOption 1: It runs: fast.\nOption 2: It sits.", "Option 1: It runs: fast."),
                q("Which is better?\nSentence A: It runs.\nSentence B: It sits.", "Sentence B: It sits."),
                q("Which caption?\nCaption A: It runs.\nCaption B: It sits.", "Caption A: It runs."),
            ]
        },
    },
}


@pytest.fixture
def root(tmp_path: Path, put: Put) -> Path:
    put(tmp_path / "videos", "7.mp4", "7_reverse.mp4")
    (tmp_path / "questions").mkdir()
    for task, content in TASKS.items():
        write(tmp_path, task, content)
    (tmp_path / "meta_info.json").write_text(
        json.dumps({"7": {"eval_dim": {"direction": {"type": "object motion"}, "speed": None}, "content": ["people"]}})
    )
    return tmp_path


def write(root: Path, task: str, content: Any) -> Path:
    path = root / "questions" / f"{task}.json"
    path.write_text(json.dumps(content))
    return path


def read(path: Path, **settings: Any) -> Any:
    return resolve("source", "tempcompass").build({"path": str(path), **settings})


def test_options_labels_and_kinds(root: Path) -> None:
    questions = [question_of(sample.truth) for sample in read(root)]
    assert [q.answer for q in questions] == ["A", "B", "A", "yes", "no", "no", "Option 1", "Sentence B", "Caption A"]
    assert questions[0].options == {"A": "from left to right", "B": "from right to left"}
    assert questions[6].options["Option 1"] == "It runs: fast."
    assert questions[0].tags == {"task": "multi-choice", "aspect": "direction", "kind": "object motion"}
    assert questions[2].tags == {"task": "multi-choice", "aspect": "direction"}
    assert questions[2].clip == "7_reverse.mp4" and questions[3].options == {}


def test_prompts_are_the_published_ones(root: Path) -> None:
    listing = read(root)
    assert listing[0].prompt.question == f"{WAY}\nPlease directly give the best option:"
    assert listing[3].prompt.question == "Does it move to the right?\nPlease answer yes or no:"
    assert listing[0].id.startswith("multi-choice-7-direction-0.")


def test_the_same_words_forwards_and_backwards_are_a_pair(root: Path) -> None:
    questions = [question_of(sample.truth) for sample in read(root)]
    pairs: dict[str, list[str]] = {}
    for question in questions:
        if question.pair:
            pairs.setdefault(question.pair, []).append(question.side)
    assert list(pairs.values()) == [["forwards", "backwards"]] * 2
    assert len({name.split("-7-")[0] for name in pairs}) == 2  # one of each task


def test_a_question_asked_twice_has_no_partner(root: Path) -> None:
    twice = {"question": "Does it move to the right?", "answer": "yes"}
    write(root, "yes_no", {"7": {"direction": [twice, twice]}, "7_reverse": {"direction": [twice]}})
    assert [question_of(sample.truth).pair for sample in read(root, tasks=["yes_no"])] == ["", "", ""]


def test_one_task_or_one_file(root: Path) -> None:
    assert len(read(root, tasks=["yes_no"])) == 3
    assert len(read(root / "questions")) == 9
    file = read(root / "questions" / "yes_no.json")
    assert [question_of(sample.truth).tags["task"] for sample in file] == ["yes_no"] * 3
    assert len(read(root, limit=4)) == 4


BAD = [
    ({"question": "Is it?", "answer": "maybe"}, "neither yes nor no"),
    ({"question": "Is it?"}, "its answer is missing"),
    ({"answer": "yes"}, "its question is missing"),
    ({"question": 3, "answer": "yes"}, "its question is not text"),
    ("yes", "a record is not an object"),
]


@pytest.mark.parametrize(("record", "reason"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_questions_are_counted(root: Path, record: Any, reason: str) -> None:
    write(root, "yes_no", {"7": {"speed": [{"question": "Fast?", "answer": "Yes"}, record]}})
    with pytest.warns(UserWarning, match="1 of 2 left out"):
        listing = read(root, tasks=["yes_no"], max_bad=0.5)
    (refused,) = listing.refused
    assert refused.where == "yes_no.json:7.speed[1]" and reason in refused.reason


def test_an_answer_that_is_no_option(root: Path) -> None:
    write(root, "multi-choice", {"7": {"action": [{"question": "What?\nA. runs\nB. sits", "answer": "B. runs"}]}})
    with pytest.raises(
        UserError, match=r"multi-choice.json:7.action\[0\]: its answer is none of its options \(B. runs\)"
    ):
        read(root, tasks=["multi-choice"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], r"yes_no.json: expected an object of clips, not a list"),
        ({"7": [1]}, r"yes_no.json: 7: expected an object of aspects, not a list"),
        ({"7": {"speed": "fast"}}, r"yes_no.json: 7.speed: expected a list of questions, not a text"),
    ],
)
def test_files_of_another_shape(root: Path, content: Any, message: str) -> None:
    write(root, "yes_no", content)
    with pytest.raises(UserError, match=message):
        read(root, tasks=["yes_no"])


def test_captioning_needs_a_judge_and_is_no_task(root: Path) -> None:
    with pytest.raises(UserError, match=r"tasks"):
        read(root, tasks=["captioning"])
    (root / "questions" / "yes_no.json").unlink()
    with pytest.raises(UserError, match=r"holds no questions/yes_no.json and no yes_no.json"):
        read(root)
