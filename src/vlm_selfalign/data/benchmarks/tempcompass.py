"""TempCompass (Liu et al. 2024, "TempCompass: Do Video LLMs Really Understand Videos?"): action, direction, speed,
order and change of attributes, asked of clips and of the same clips played backwards.

``questions/TASK.json`` is ``{clip: {aspect: [{"question", "answer"}, ...]}}``, clips are ``videos/CLIP.mp4``, and
``meta_info.json``, where it is there, tells the finer kind of each aspect. The captioning task needs a judge and is not
read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from vlm_selfalign.core.registry import source
from vlm_selfalign.data.benchmarks.records import (
    Asked,
    Group,
    clips_beside,
    expect,
    field,
    found_file,
    listed,
    read_json,
)
from vlm_selfalign.data.listing import Limit, Listing, MaxBad, Refusal
from vlm_selfalign.data.paths import BadRow
from vlm_selfalign.scoring.closed_questions import ClosedQuestion

Task = Literal["multi-choice", "yes_no", "caption_matching"]

INSTRUCTIONS: dict[Task, str] = {
    "multi-choice": "Please directly give the best option:",
    "yes_no": "Please answer yes or no:",
    "caption_matching": "Please directly give the best option:",
}

BACKWARDS = "_reverse"
"""How the name of a clip played backwards ends."""

_OPTION = re.compile(r"^([A-Z]|(?:Option|Sentence|Caption) \w)(?:\.|:) (.+)$")


@source
def tempcompass(
    path: str,
    limit: Limit = None,
    tasks: tuple[Task, ...] = ("multi-choice", "yes_no", "caption_matching"),
    clips: str | None = None,
    outside: bool = False,
    max_bad: MaxBad = 0.05,
) -> Listing:
    """TempCompass's questions; those asked in the same words of a clip and of its reverse are pairs.

    Args:
        path: The folder with ``questions`` and ``videos``, or one task's JSON file.
        limit: At most so many questions, the first.
        tasks: Which tasks; a single file is the one its name says.
        clips: The folder of clips; ``videos`` beside ``questions`` by default.
        outside: Follow links that leave the folder of clips.
        max_bad: Go on without bad questions up to this share of them.

    Raises:
        UserError: No such file, a file of another shape, or too many bad questions (the first three are named).
    """
    files: dict[Task, Path] = {task: found_file(path, f"questions/{task}.json", f"{task}.json") for task in tasks}
    if len(tasks) > 1 and len(set(files.values())) == 1:  # one file was given: its name says what it is
        (file,) = set(files.values())
        files = {task: file for task in tasks if task == file.stem} or {tasks[0]: file}
    first = next(iter(files.values()))
    home = clips_beside(first, clips, "videos", "../videos")
    kinds = _kinds(first)
    groups = (group for task, file in files.items() for group in _questions(task, file, kinds))
    return listed(path, home, groups, limit, max_bad, outside)


def _kinds(file: Path) -> Mapping[str, Any]:
    """The finer kind of each aspect of each clip, where the file that tells is there."""
    found = next(
        (p for p in (file.parent / "meta_info.json", file.parent.parent / "meta_info.json") if p.is_file()), None
    )
    return expect(read_json(found), dict, found, "expected an object of clips") if found else {}


def _questions(task: Task, file: Path, kinds: Mapping[str, Any]) -> Iterator[Group | Refusal]:
    clips = expect(read_json(file), dict, file, "expected an object of clips")
    for clip, aspects in clips.items():
        for aspect, records in expect(aspects, dict, file, f"{clip}: expected an object of aspects").items():
            records = expect(records, list, file, f"{clip}.{aspect}: expected a list of questions")
            stems = Counter(_stem(record) for record in records)
            for number, record in enumerate(records):
                where = f"{file.name}:{clip}.{aspect}[{number}]"
                tags = {"task": task, "aspect": aspect} | _kind(kinds, clip, aspect)
                partner = _partner(clip, aspect, _stem(record), clips) if stems[_stem(record)] == 1 else {}
                try:
                    yield [_asked(record, task, where, f"{task}-{clip}-{aspect}-{number}", clip, tags, partner)]
                except BadRow as error:
                    yield Refusal(where, error.reason, error.detail)


def _asked(
    record: Any, task: Task, where: str, name: str, clip: str, tags: dict[str, str], partner: dict[str, str]
) -> Asked:
    question, answer = field(record, "question"), field(record, "answer")
    options, label = _yes_no(answer) if task == "yes_no" else _options(question, answer)
    pair, side = (f"{task}-{partner['pair']}", partner["side"]) if partner else ("", "")
    truth = ClosedQuestion(clip=f"{clip}.mp4", answer=label, options=options, tags=tags, pair=pair, side=side)
    return Asked(where, name, f"{clip}.mp4", f"{question}\n{INSTRUCTIONS[task]}", truth)


def _yes_no(answer: str) -> tuple[dict[str, str], str]:
    label = answer.strip().lower()
    if label not in ("yes", "no"):
        raise BadRow("its answer is neither yes nor no", answer[:60])
    return {}, label


def _options(question: str, answer: str) -> tuple[dict[str, str], str]:
    """The options, which are the later lines of the question, and the label of the right one."""
    found = [_OPTION.match(line.strip()) for line in question.splitlines()[1:]]
    options = {match.group(1): match.group(2) for match in found if match}
    right = [label for label, text in options.items() if answer.strip() in (f"{label}. {text}", f"{label}: {text}")]
    if len(options) < 2 or not right:
        raise BadRow("its answer is none of its options", answer[:60])
    return options, right[0]


def _partner(clip: str, aspect: str, stem: str, clips: Mapping[str, Any]) -> dict[str, str]:
    """Pair and side of a question that is asked once in the same words of the clip the other way round."""
    base, side = clip.removesuffix(BACKWARDS), "backwards" if clip.endswith(BACKWARDS) else "forwards"
    other = clips.get(base if side == "backwards" else base + BACKWARDS)
    records = other.get(aspect) if isinstance(other, dict) else None
    if not stem or not isinstance(records, list) or [_stem(record) for record in records].count(stem) != 1:
        return {}
    return {"pair": f"{base}-{aspect}-{stem}", "side": side}


def _stem(record: Any) -> str:
    """The question without its options: they may be listed in another order."""
    question = record.get("question") if isinstance(record, dict) else None
    return question.splitlines()[0].strip() if isinstance(question, str) and question.strip() else ""


def _kind(kinds: Mapping[str, Any], clip: str, aspect: str) -> dict[str, str]:
    found: Any = kinds
    for key in (clip, "eval_dim", aspect, "type"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return {"kind": found} if isinstance(found, str) else {}
