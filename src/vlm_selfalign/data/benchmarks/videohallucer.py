"""VideoHallucer (Wang et al. 2024, "VideoHallucer: Evaluating Intrinsic and Extrinsic Hallucinations in Large
Video-Language Models"): a basic question answered yes and a hallucinated one answered no, pair by pair.

A folder for each set with ``SET.json`` and ``videos/``; the file is a list of
``{"basic": {"video", "question", "answer"}, "hallucination": {...}, "type"}``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.benchmarks.records import Asked, Group, clips_beside, expect, field, listed, read_json
from vlm_selfalign.data.listing import Listing, MaxBad, Refusal
from vlm_selfalign.data.paths import BadRow
from vlm_selfalign.media.errors import printable
from vlm_selfalign.scoring.closed_questions import ClosedQuestion

SIDES = {"basic": "yes", "hallucination": "no"}
INSTRUCTION = "Answer the question using 'yes' or 'no'."


@source
def videohallucer(
    path: str,
    limit: Annotated[int | None, Field(ge=2)] = None,
    sets: tuple[str, ...] = (),
    clips: str | None = None,
    outside: bool = False,
    instruction: str = INSTRUCTION,
    max_bad: MaxBad = 0.05,
) -> Listing:
    """VideoHallucer's pairs of yes/no questions; each question a sample, pairs never torn apart.

    Args:
        path: The folder of all sets, of one, or one ``SET.json``.
        limit: At most so many questions, the first.
        sets: Only these; all that are there by default.
        clips: The folder of clips, with a sub-folder for each set where there are several; by default each set's
            own ``videos``.
        instruction: What is said after each question.
        outside: Follow links that leave the folder of clips.
        max_bad: Go on without bad pairs up to this share of them.

    Raises:
        UserError: No such set, a file of another shape, or too many bad pairs (the first three are named).
    """
    files = _files(path, sets)
    home = Path(clips or os.path.commonpath([file.parent for file in files])).resolve()
    groups = (group for file in files for group in _pairs(file, _clips(file, clips, len(files)), home, instruction))
    return listed(path, home, groups, limit, max_bad, outside)


def _files(path: str, sets: tuple[str, ...]) -> list[Path]:
    given = Path(os.path.abspath(os.path.expanduser(path)))
    if given.is_file() or given.suffix == ".json":
        return [given]
    own = given / f"{given.name}.json"
    found = [own] if own.is_file() else sorted(f for f in given.glob("*/*.json") if f.stem == f.parent.name)
    missing = sorted(set(sets) - {file.stem for file in found})
    if missing or not found:
        wanted = missing[0] if missing else "SET"
        raise UserError(f"{printable(path)}: holds no {wanted}/{wanted}.json; give VideoHallucer's folder or one file")
    return [file for file in found if not sets or file.stem in sets]


def _clips(file: Path, clips: str | None, several: int) -> Path:
    if clips is None:
        return clips_beside(file, None, "videos")
    return Path(clips).resolve() / file.stem if several > 1 else Path(clips).resolve()


def _pairs(file: Path, clips: Path, home: Path, instruction: str) -> Iterator[Group | Refusal]:
    records = expect(read_json(file), list, file, "expected a list of pairs")
    if records and not any(isinstance(one, dict) and SIDES.keys() <= one.keys() for one in records):
        raise UserError(
            f"{printable(file)}: no pair has the keys basic and hallucination; is this VideoHallucer's file?"
        )
    for number, record in enumerate(records):
        where = f"{file.name}[{number}]"
        try:
            yield [_asked(record, side, file.stem, number, clips, home, instruction) for side in SIDES]
        except BadRow as error:
            yield Refusal(where, error.reason, error.detail)


def _asked(record: Any, side: str, name: str, number: int, clips: Path, home: Path, instruction: str) -> Asked:
    own = field(record, side, dict)
    question, answer = field(own, "question", where=side), field(own, "answer", where=side).strip().lower()
    if answer != SIDES[side]:
        raise BadRow(f"its {side}.answer is not {SIDES[side]}", answer[:60])
    clip = os.path.relpath(clips / field(own, "video", where=side), home)
    pair = f"{name}-{number}"
    tags = {"set": name} | ({"type": str(record["type"])} if record.get("type") else {})
    truth = ClosedQuestion(clip=clip, answer=answer, pair=pair, side=side, tags=tags)
    prompt = f"{question}\n{instruction}" if instruction else question
    return Asked(f"{name}.json[{number}].{side}", f"{pair}-{side}", clip, prompt, truth)
