"""Twenty tasks with folders of their own; segments are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.media.video import load_video
from vlm_selfalign.scoring.closed_questions import question_of

Put = Callable[..., None]

QUESTION = {
    "video": "a.mp4",
    "question": "What happened after the person took the food?",
    "candidates": ["Ate the medicine.", "Tidied up the blanket.", "Took the box."],
    "answer": "Tidied up the blanket.",
}
BOUND = {**QUESTION, "start": 0.25, "end": 0.75}


@pytest.fixture
def root(tmp_path: Path, put: Put) -> Path:
    put(tmp_path / "video" / "star/Charades_v1_480", "a.mp4")
    put(tmp_path / "video" / "perception/videos", "a.mp4", "sub/b.mp4")
    (tmp_path / "json").mkdir()
    write(tmp_path, "action_sequence", [BOUND])
    write(tmp_path, "action_count", [QUESTION, {**QUESTION, "video": "sub/b.mp4"}])
    write(tmp_path, "episodic_reasoning", [BOUND])
    return tmp_path


def write(root: Path, task: str, content: Any) -> Path:
    path = root / "json" / f"{task}.json"
    path.write_text(json.dumps(content))
    return path


def read(path: Path, **settings: Any) -> Any:
    return resolve("source", "mvbench").build({"path": str(path), **settings})


def test_tasks_find_their_clips_and_keep_their_segments(root: Path) -> None:
    bound, whole, _ = samples = list(read(root))
    questions = [question_of(sample.truth) for sample in samples]
    assert [q.clip for q in questions] == [
        "star/Charades_v1_480/a.mp4",
        "perception/videos/a.mp4",
        "perception/videos/sub/b.mp4",
    ]
    assert [q.tags["task"] for q in questions] == ["action_sequence", "action_count", "action_count"]
    assert [q.seconds for q in questions] == [0.5, None, None]
    assert (bound.prompt.media[0].start, bound.prompt.media[0].end) == (0.25, 0.75)
    assert whole.prompt.media[0].start is None
    assert len(load_video(bound.prompt.media[0], fps=4, isolate=False)) == 2


def test_letters_and_prompt(root: Path) -> None:
    sample = read(root, tasks=["action_count"])[0]
    question = question_of(sample.truth)
    assert question.answer == "B" and question.options["C"] == "Took the box."
    assert "Question: What happened after" in sample.prompt.question
    assert "\n(A) Ate the medicine.\n(B) Tidied up" in sample.prompt.question
    assert sample.prompt.question.endswith("\nOnly give the best option.")


def test_one_file_with_its_clips_beside(root: Path, put: Put) -> None:
    put(root / "flat", "a.mp4")
    listing = read(root / "json" / "action_sequence.json", clips=str(root / "flat"))
    assert question_of(listing[0].truth).clip == "a.mp4"
    other = root / "json" / "my_task.json"
    other.write_text(json.dumps([QUESTION]))
    assert question_of(read(other, clips=str(root / "flat"))[0].truth).tags == {"task": "my_task"}


BAD = [
    ({"answer": "Sang."}, "its answer is not one of its candidates"),
    ({"candidates": ["Took the box."] * 2, "answer": "Took the box."}, "its answer is not one of its candidates"),
    ({"candidates": {"A": "x"}}, "its candidates is not a list"),
    ({"start": 3.0, "end": 2.0}, "its start and end are no part of a clip"),
    ({"start": 1.0}, "its end is missing"),
    ({"start": "0", "end": 1}, "its start is not a number"),
    ({"video": None}, "its video is missing"),
    ({"video": "../../../json/x.mp4"}, "not under the manifest's folder"),
]


@pytest.mark.parametrize(("change", "reason"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_questions_are_counted(root: Path, change: dict[str, Any], reason: str) -> None:
    write(root, "action_count", [QUESTION, {**QUESTION, **change}])
    with pytest.warns(UserWarning, match="1 of 2 left out"):
        listing = read(root, tasks=["action_count"], max_bad=0.5)
    (refused,) = listing.refused
    assert refused.where == "action_count.json[1]" and reason in refused.reason


def test_mistakes_say_what_to_do(root: Path) -> None:
    with pytest.raises(UserError, match=r"tasks: no task 'action_cont' that can be read; did you mean 'action_count'"):
        read(root, tasks=["action_cont"])
    with pytest.raises(UserError, match=r"no task 'episodic_reasoning' that can be read"):
        read(root, tasks=["episodic_reasoning"])
    with pytest.raises(UserError, match=r"holds no json/state_change.json"):
        read(root, tasks=["state_change"])
    with pytest.raises(UserError, match=r"holds no json/TASK.json"):
        read(root / "video")
    write(root, "action_count", {"video": "a.mp4"})
    with pytest.raises(UserError, match=r"action_count.json: expected a list of questions, not an object"):
        read(root, tasks=["action_count"])
