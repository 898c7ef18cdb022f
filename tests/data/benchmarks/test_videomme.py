"""The authors' JSON in both revisions, and the table of questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.scoring.closed_questions import question_of

Put = Callable[..., None]

QUESTION = {
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "How many apples?",
    "options": ["A. 4.", "B. 9.", "C. 5.", "D. 13."],
    "answer": "C",
}
CLIP = {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "History"}


@pytest.fixture
def root(tmp_path: Path, put: Put) -> Path:
    put(tmp_path / "data", "001.mp4", "002.mp4", "fFjv93ACGo8.mp4")
    return tmp_path


def written(root: Path, content: Any) -> Path:
    path = root / "videomme.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(path: Path, **settings: Any) -> Any:
    return resolve("source", "videomme").build({"path": str(path), **settings})


def test_the_authors_json(root: Path) -> None:
    long = {
        **CLIP,
        "video_id": "002",
        "duration": "long",
        "questions": [{**QUESTION, "question_id": "002-1", "response": "A"}],
    }
    written(root, [{**CLIP, "questions": [QUESTION]}, long])
    listing = read(root)
    first = question_of(listing[0].truth)
    assert first.answer == "C" and first.options == {"A": "4.", "B": "9.", "C": "5.", "D": "13."}
    assert first.clip == "001.mp4"
    assert first.tags == {
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "History",
        "task_type": "Counting Problem",
    }
    assert "letter (A, B, C, or D)" in listing[0].prompt.question and "B. 9.\n" in listing[0].prompt.question
    assert listing[0].prompt.question.endswith("The best answer is:")
    assert [question_of(sample.truth).clip for sample in read(root, durations=["long"])] == ["002.mp4"]


def test_the_older_revision(root: Path) -> None:
    question = {key: value for key, value in QUESTION.items() if key != "options"} | {"choices": QUESTION["options"]}
    clip = {"video_id": "001", "duration_category": "short", "video_category": "Sports", "video_subcategory": "Other"}
    found = question_of(read(written(root, [{**clip, "questions": [question]}]))[0].truth)
    assert found.tags["domain"] == "Sports" and found.tags["duration"] == "short" and found.options["D"] == "13."


def test_a_record_that_is_no_object(root: Path) -> None:
    with pytest.raises(UserError, match=r"videomme.json\[0\].questions\[1\]: not an object"):
        read(written(root, [{**CLIP, "questions": [QUESTION, "words"]}]))


def test_the_table_names_clips_by_their_own_id(root: Path) -> None:
    rows = [{**CLIP, "url": "u", "videoID": "fFjv93ACGo8", **QUESTION}]
    (root / "videomme").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), root / "videomme" / "test-00000-of-00001.parquet")
    (sample,) = read(root)
    question = question_of(sample.truth)
    assert question.clip == "fFjv93ACGo8.mp4" and question.answer == "C" and question.options["B"] == "9."


def test_a_table_of_something_else(root: Path) -> None:
    parquet.write_table(pa.Table.from_pylist([{"text": "x"}]), root / "x.parquet")
    with pytest.raises(UserError, match=r"x.parquet: has no column answer"):
        read(root / "x.parquet")
    (root / "y.parquet").write_bytes(b"words")
    with pytest.raises(UserError, match=r"y.parquet: cannot be read as Parquet"):
        read(root / "y.parquet")


BAD = [
    ({"answer": "E"}, "its answer is the letter of no option"),
    ({"answer": None}, "its answer is missing"),
    ({"options": "A. 4."}, "its options is not a list"),
    ({"options": ["A. 4.", 3]}, "its options are not all texts"),
    ({"options": []}, "its options is missing"),
    ({"question": ""}, "its question is missing"),
    ({"question_id": 7}, "its question_id is not text"),
]


@pytest.mark.parametrize(("change", "reason"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_questions_are_counted(root: Path, change: dict[str, Any], reason: str) -> None:
    content = [{**CLIP, "questions": [QUESTION, {**QUESTION, "question_id": "001-2", **change}]}]
    with pytest.warns(UserWarning, match="1 of 2 left out"):
        listing = read(written(root, content), max_bad=0.5)
    (refused,) = listing.refused
    assert refused.where == "videomme.json[0].questions[1]" and reason in refused.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"questions": []}, r"videomme.json: expected a list of clips, not an object"),
        ([{"video_id": "001", "questions": {}}], r"videomme.json: \[0\].questions: expected a list, not an object"),
        ([{"video_id": "001"}], r"videomme.json: \[0\].questions: expected a list"),
        ('[{"video_id": "001",},]', r"videomme.json: not JSON \(line 1"),
    ],
)
def test_files_of_another_shape(root: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(written(root, content))
    with pytest.raises(UserError, match=r"holds no videomme/test-00000-of-00001.parquet and no"):
        read(root / "data")


def test_a_clip_that_is_not_there_is_counted_for_each_question(root: Path) -> None:
    content = [
        {**CLIP, "questions": [QUESTION]},
        {**CLIP, "video_id": "404", "questions": [{**QUESTION, "question_id": "404-1"}]},
    ]
    with pytest.raises(UserError, match=r"1 of 2 cannot be used; .*videomme.json\[1\].questions\[0\]: no such file"):
        read(written(root, content))
