"""Video-MME (Fu et al. 2025, "Video-MME: The First-Ever Comprehensive Evaluation Benchmark of Multi-modal LLMs in Video
Analysis"): four options, clips from seconds to an hour.

Either the table of questions as Parquet (one question a row), or the JSON of the authors' script: a list of clips
``{"video_id", "duration", "domain", "sub_category", "questions": [{"question_id", "task_type", "question", "options",
"answer"}]}``; the names of an older revision (``duration_category``, ``choices``, ...) are known too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.benchmarks.records import (
    LETTERS,
    Asked,
    Group,
    clips_beside,
    expect,
    field,
    first_of,
    found_file,
    listed,
    read_json,
    texts,
)
from vlm_selfalign.data.listing import Limit, Listing, MaxBad, Refusal
from vlm_selfalign.data.paths import BadRow
from vlm_selfalign.media.errors import printable
from vlm_selfalign.scoring.closed_questions import ClosedQuestion

INSTRUCTION = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
    "(A, B, C, or D) of the correct option."
)
TABLES = ("videomme/test-00000-of-00001.parquet", "test-00000-of-00001.parquet", "videomme.json")
OLDER = {"duration": "duration_category", "domain": "video_category", "sub_category": "video_subcategory"}


@source
def videomme(
    path: str,
    limit: Limit = None,
    durations: tuple[Literal["short", "medium", "long"], ...] = ("short", "medium", "long"),
    clips: str | None = None,
    outside: bool = False,
    max_bad: MaxBad = 0.05,
) -> Listing:
    """Video-MME's questions, without subtitles.

    Args:
        path: The table or JSON file, or the folder as published.
        limit: At most so many questions, the first.
        durations: Only clips of these lengths, and those whose length nobody says.
        clips: The folder of clips, named by their ``videoID`` (else ``video_id``); ``data``, ``videos`` or ``video``
            beside the file by default.
        outside: Follow links that leave the folder of clips.
        max_bad: Go on without bad questions up to this share of them.

    Raises:
        UserError: No such file, a file of another shape, or too many bad questions (the first three are named).
    """
    file = found_file(path, *TABLES)
    names = ("data", "videos", "video", "../data", "../videos", "../video")
    home = clips_beside(file, clips, *names)
    groups = (group for group in _questions(file) if _wanted(group, durations))
    return listed(path, home, groups, limit, max_bad, outside)


def _wanted(group: Group | Refusal, durations: tuple[str, ...]) -> bool:
    return isinstance(group, Refusal) or group[0].question.tags["duration"] in (*durations, "unknown")


def _questions(file: Path) -> Iterator[Group | Refusal]:
    for where, clip, record in _records(file):
        try:
            yield [_asked(where, clip, record)]
        except BadRow as error:
            yield Refusal(where, error.reason, error.detail)


def _records(file: Path) -> Iterator[tuple[str, Any, Any]]:
    """Where, the record of the clip, and that of the question; in a table they are one."""
    if file.suffix == ".parquet":
        yield from ((f"{file.name}:row {number}", row, row) for number, row in enumerate(_rows(file)))
        return
    for number, clip in enumerate(expect(read_json(file), list, file, "expected a list of clips")):
        where = f"{file.name}[{number}]"
        if isinstance(clip, dict) and "questions" not in clip and "question" in clip:
            yield where, clip, clip
            continue
        found = clip.get("questions") if isinstance(clip, dict) else None
        for place, record in enumerate(expect(found, list, file, f"[{number}].questions: expected a list")):
            yield f"{where}.questions[{place}]", clip, record


def _rows(file: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"{printable(file)}: cannot be read as Parquet ({str(error)[:80]})") from None
    missing = {"question", "options", "answer", "question_id"} - set(table.column_names)
    if missing:
        raise UserError(f"{printable(file)}: has no column {min(missing)}; is this Video-MME's table?")
    return table.to_pylist()


def _asked(where: str, clip: Any, record: Any) -> Asked:
    if not isinstance(clip, dict) or not isinstance(record, dict):
        raise BadRow("not an object", repr(record)[:60])
    options = texts(record, first_of(record, "options", "choices"))
    labelled = {letter: _text(option, letter) for letter, option in zip(LETTERS, options, strict=False)}
    answer = field(record, "answer").strip().rstrip(".").upper()
    if answer not in labelled:
        raise BadRow("its answer is the letter of no option", answer[:60])
    name = field(record, "question_id")
    file = f"{field(clip, first_of(clip, 'videoID', 'video_id'))}.mp4"
    tags = {key: str(clip.get(first_of(clip, key, older)) or "unknown") for key, older in OLDER.items()}
    tags["task_type"] = str(record.get("task_type") or "unknown")
    truth = ClosedQuestion(clip=file, answer=answer, options=labelled, tags=tags)
    shown = "\n".join(f"{letter}. {text}" for letter, text in labelled.items())
    prompt = f"{INSTRUCTION}\n{field(record, 'question')}\n{shown}\nThe best answer is:"
    return Asked(where, name, file, prompt, truth)


def _text(option: str, letter: str) -> str:
    """An option without its letter, where it has it: ``A. Apples.``"""
    return option.removeprefix(f"{letter}.").removeprefix(f"({letter})").strip()
