"""MVBench (Li et al. 2024, "MVBench: A Comprehensive Multi-modal Video Understanding Benchmark"): twenty tasks of
multiple choice.

``json/TASK.json`` is a list of ``{"video", "question", "candidates", "answer"}``, some with ``start`` and ``end``
seconds; clips lie in ``video/FOLDER/``, by task.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.benchmarks.records import (
    LETTERS,
    Asked,
    Group,
    clips_beside,
    expect,
    field,
    found_file,
    listed,
    read_json,
    texts,
)
from vlm_selfalign.data.listing import Limit, Listing, MaxBad, Refusal
from vlm_selfalign.data.paths import BadRow
from vlm_selfalign.media.errors import printable
from vlm_selfalign.scoring.closed_questions import ClosedQuestion

CHARADES, PERCEPTION, CLEVRER = "star/Charades_v1_480", "perception/videos", "clevrer/video_validation"

FOLDERS = {
    "action_sequence": CHARADES,
    "action_prediction": CHARADES,
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": CLEVRER,
    "object_interaction": CHARADES,
    "object_shuffle": PERCEPTION,
    "moving_direction": CLEVRER,
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": PERCEPTION,
    "moving_count": CLEVRER,
    "moving_attribute": CLEVRER,
    "state_change": PERCEPTION,
    "fine_grained_pose": "nturgbd",
    "character_order": PERCEPTION,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": CLEVRER,
}
"""Where the clips of each task lie; those of the last but one are folders of pictures, which are not read."""

FRAMES = "episodic_reasoning"

INSTRUCTION = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question."
)


@source
def mvbench(
    path: str,
    limit: Limit = None,
    tasks: tuple[str, ...] = (),
    clips: str | None = None,
    outside: bool = False,
    max_bad: MaxBad = 0.05,
) -> Listing:
    """MVBench's questions, segments as given.

    Args:
        path: The folder with ``json`` and ``video``, or one task's JSON file.
        limit: At most so many questions, the first.
        tasks: Only these; by default all whose files are there, but for ``episodic_reasoning``, whose clips are
            folders of pictures.
        clips: The folder that the tasks' own folders are in, or with one file that of its clips; ``video`` beside
            ``json`` by default.
        outside: Follow links that leave the folder of clips.
        max_bad: Go on without bad questions up to this share of them.

    Raises:
        UserError: No such task, a file of another shape, or too many bad questions (the first three are named).
    """
    for task in tasks:
        if task not in FOLDERS or task == FRAMES:
            raise UserError(f"tasks: no task '{task}' that can be read{nearest(task, FOLDERS.keys() - {FRAMES})}")
    given = Path(path).expanduser()
    files = _files(path, tasks)
    home = clips_beside(files[0], clips, "../video", "video", "../videos", "videos")
    flat = given.is_file() and not (home / FOLDERS.get(files[0].stem, "")).is_dir()
    groups = (group for file in files for group in _questions(file, "" if flat else FOLDERS.get(file.stem, "")))
    return listed(path, home, groups, limit, max_bad, outside)


def _files(path: str, tasks: tuple[str, ...]) -> list[Path]:
    given = Path(path).expanduser()
    if given.is_file():
        return [given.resolve()]
    if tasks:
        return [found_file(path, f"json/{task}.json", f"{task}.json") for task in tasks]
    folder = given / "json" if (given / "json").is_dir() else given
    found = [folder / f"{task}.json" for task in FOLDERS if task != FRAMES and (folder / f"{task}.json").is_file()]
    if not found:
        raise UserError(f"{printable(path)}: holds no json/TASK.json; give MVBench's folder or one of its files")
    return [file.resolve() for file in found]


def _questions(file: Path, folder: str) -> Iterator[Group | Refusal]:
    for number, record in enumerate(expect(read_json(file), list, file, "expected a list of questions")):
        where = f"{file.name}[{number}]"
        try:
            yield [_asked(record, where, f"{file.stem}-{number}", folder, file.stem)]
        except BadRow as error:
            yield Refusal(where, error.reason, error.detail)


def _asked(record: Any, where: str, name: str, folder: str, task: str) -> Asked:
    clip = str(Path(folder, field(record, "video")))
    candidates, answer = texts(record, "candidates"), field(record, "answer")
    if candidates.count(answer) != 1:
        raise BadRow("its answer is not one of its candidates", answer[:60])
    options = dict(zip(LETTERS, candidates, strict=False))
    label = LETTERS[candidates.index(answer)]
    part = _part(record)
    seconds = part[1] - part[0] if part else None
    truth = ClosedQuestion(clip=clip, answer=label, options=options, tags={"task": task}, seconds=seconds)
    shown = "\n".join(f"({letter}) {text}" for letter, text in options.items())
    prompt = f"{INSTRUCTION}\nQuestion: {field(record, 'question')}\nOptions:\n{shown}\nOnly give the best option."
    return Asked(where, name, clip, prompt, truth, part)


def _part(record: Any) -> tuple[float, float] | None:
    if record.get("start") is None and record.get("end") is None:
        return None
    start, end = (float(field(record, key, (int, float))) for key in ("start", "end"))
    if not 0 <= start < end:
        raise BadRow("its start and end are no part of a clip", f"{start:g} to {end:g} s")
    return start, end
