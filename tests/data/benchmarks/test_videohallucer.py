"""Pairs are read whole or not at all, from the folders as published."""

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


def pair(first: str, second: str | None = None, question: str = "Is it?", **more: Any) -> dict[str, Any]:
    return {
        "basic": {"video": first, "question": question, "answer": "yes"},
        "hallucination": {"video": second or first, "question": question, "answer": "no"},
        "type": "subject",
        **more,
    }


@pytest.fixture
def root(tmp_path: Path, put: Put) -> Path:
    put(tmp_path / "temporal" / "videos", "a.mp4", "b.mp4")
    put(tmp_path / "semantic_detail" / "videos", "c_a.mp4", "c_b.mp4")
    write(tmp_path, "temporal", [pair("a.mp4", question="Does it rain?"), pair("b.mp4")])
    write(tmp_path, "semantic_detail", [pair("c_a.mp4", "c_b.mp4")])
    (tmp_path / "temporal" / "stat.json").write_text("{}")
    return tmp_path


def write(root: Path, name: str, content: Any) -> Path:
    path = root / name / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(**settings: Any) -> Any:
    return resolve("source", "videohallucer").build(
        {name: str(v) if name == "path" else v for name, v in settings.items()}
    )


def test_every_question_is_a_sample_with_its_pair(root: Path) -> None:
    listing = read(path=root)
    questions = [question_of(sample.truth) for sample in listing]
    assert len(listing) == 6 and not listing.refused
    assert [q.pair for q in questions] == [
        f"{s}-{n}" for s, n in (("semantic_detail", 0), ("temporal", 0), ("temporal", 1)) for _ in "12"
    ]
    assert [(q.side, q.answer) for q in questions[:2]] == [("basic", "yes"), ("hallucination", "no")]
    assert [q.clip for q in questions[:3]] == [
        *(f"semantic_detail/videos/c_{x}.mp4" for x in "ab"),
        "temporal/videos/a.mp4",
    ]
    assert questions[2].tags == {"set": "temporal", "type": "subject"}
    sample = listing[2]
    assert sample.prompt.question == "Does it rain?\nAnswer the question using 'yes' or 'no'."
    assert sample.id.startswith("temporal-0-basic.")
    assert load_video(sample.prompt.media[0], frames=2, isolate=False).frames.shape == (2, 32, 32, 3)


def test_one_set_one_file_other_clips(root: Path, put: Put) -> None:
    assert len(read(path=root, sets=["temporal"])) == 4
    assert question_of(read(path=root / "temporal")[0].truth).clip == "videos/a.mp4"
    put(root / "elsewhere", "a.mp4", "b.mp4")
    listing = read(path=root / "temporal" / "temporal.json", clips=str(root / "elsewhere"), instruction="")
    assert question_of(listing[0].truth).clip == "a.mp4" and listing[0].prompt.question == "Does it rain?"
    put(root / "all" / "temporal", "a.mp4", "b.mp4")
    put(root / "all" / "semantic_detail", "c_a.mp4", "c_b.mp4")
    assert question_of(read(path=root, clips=str(root / "all"))[0].truth).clip == "semantic_detail/c_a.mp4"


@pytest.mark.parametrize(("limit", "samples"), [(2, 2), (3, 2), (4, 4), (100, 6)])
def test_a_limit_never_tears_a_pair_apart(root: Path, limit: int, samples: int) -> None:
    assert len(read(path=root, limit=limit)) == samples
    with pytest.raises(UserError, match=r"limit.*greater than or equal to 2"):
        read(path=root, limit=1)


def without(side: str, key: str) -> dict[str, Any]:
    found = pair("a.mp4")
    del found[side][key]
    return found


BAD = [
    (pair("missing.mp4"), "no such file"),
    (pair("a.mp4", "missing.mp4"), "no such file"),
    (pair("../../outside.mp4"), "not under the manifest's folder"),
    (without("basic", "question"), "its basic.question is missing"),
    (without("hallucination", "answer"), "its hallucination.answer is missing"),
    (pair("a.mp4", basic={"video": "a.mp4", "question": "?", "answer": "no"}), "its basic.answer is not yes"),
    (pair("a.mp4", basic=["a.mp4"]), "its basic is not of the right kind"),
    (pair("a.mp4", hallucination={"video": 3, "question": "?", "answer": "no"}), "its hallucination.video is not text"),
    ("words", "a record is not an object"),
]


@pytest.mark.parametrize(("record", "reason"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_bad_pair_is_counted_once_and_left_out_whole(root: Path, record: Any, reason: str) -> None:
    write(root, "temporal", [pair("a.mp4"), record, pair("b.mp4")])
    with pytest.warns(UserWarning, match="1 of 5 left out"):
        listing = read(path=root / "temporal", max_bad=0.5)
    (refused,) = listing.refused
    assert len(listing) == 4 and "temporal.json[1]" in refused.where and reason in refused.reason
    with pytest.raises(UserError, match=r"1 of 5 cannot be used; .*temporal.json\[1\]"):
        read(path=root / "temporal")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"basic": 1}, r"temporal.json: expected a list of pairs, not an object"),
        ([{"question": "?", "answer": "yes"}], r"temporal.json: no pair has the keys basic and hallucination"),
        ("[{,]", r"temporal.json: not JSON \(line 1"),
        ("[]", r"holds no rows"),
        ("\xff", r"temporal.json: not JSON"),
    ],
)
def test_files_of_another_shape(root: Path, content: Any, message: str) -> None:
    write(root, "temporal", content)
    with pytest.raises(UserError, match=message) as error:
        read(path=root / "temporal")
    assert "\n" not in str(error.value)


def test_what_is_not_there(root: Path) -> None:
    with pytest.raises(UserError, match=r"holds no temporel/temporel.json"):
        read(path=root, sets=["temporel"])
    with pytest.raises(UserError, match=r"holds no SET/SET.json"):
        read(path=root / "temporal" / "videos")
    with pytest.raises(UserError, match=r"no such folder of clips"):
        read(path=root / "temporal", clips=str(root / "nowhere"))
    with pytest.raises(UserError, match=r"no such file"):
        read(path=root / "nothing.json", clips=str(root))
