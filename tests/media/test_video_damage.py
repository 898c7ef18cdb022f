"""Damaged clips: right frames, or marked, or refused; no crash, no hang.

``MEDIA_TESTS=full`` draws the 600 clips of the table in the documentation instead of a tenth.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.readers import Request
from vlm_selfalign.media.readers.pyav import read
from vlm_selfalign.media.video import load_video

from .awkward import PLAIN
from .clips import ORDINARY, Recipe, made, numbers
from .damaged import damaged

COUNT = 600 if os.environ.get("MEDIA_TESTS") == "full" else 60
_ALSO = ("open-264.mp4", "open-265.mkv", "xvid.mkv", "mpeg2.ts", "fragments.mp4", "sorenson.flv", "mjpeg.avi")
SOURCES = (*ORDINARY, *(recipe for recipe in PLAIN if f"{recipe.name}.{recipe.suffix}" in _ALSO))


def outcome(path: Path, recipe: Recipe) -> str:
    try:
        clip = read(str(path), Request(frames=16))
    except MediaError as error:
        assert error.stage in ("header", "decode"), error
        return "refused"
    got = numbers(clip.frames)
    if clip.quality == "degraded":
        assert clip.reasons
        return "degraded"
    if None in got:
        return "unreadable"
    return "right" if got == sorted(set(got)) else "out of order"  # type: ignore[type-var]


def test_damaged_clips(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(COUNT):
        recipe = SOURCES[seed * 8 % len(SOURCES)]
        data, kind = damaged(made(recipe).read_bytes(), seed)
        path = tmp_path / f"{seed}-{kind}.{recipe.suffix}"
        path.write_bytes(data)
        begin = time.perf_counter()
        outcomes[outcome(path, recipe)] += 1
        assert time.perf_counter() - begin < 10
    print(dict(outcomes))
    assert outcomes["unreadable"] + outcomes["out of order"] <= 0.05 * COUNT
    assert outcomes["right"] > 0.05 * COUNT
    assert outcomes["degraded"] > 0.3 * COUNT


CUT = [recipe for recipe in ORDINARY if recipe.suffix in ("mp4", "mkv", "webm", "ts", "avi", "flv", "wmv", "gif")][:9]


@pytest.mark.parametrize("recipe", CUT, ids=lambda recipe: f"{recipe.name}.{recipe.suffix}")
def test_a_clip_cut_short_is_never_taken_for_whole(recipe: Recipe, tmp_path: Path) -> None:
    data = made(recipe).read_bytes()
    path = tmp_path / f"cut.{recipe.suffix}"
    for share in (0.35, 0.6, 0.85):
        path.write_bytes(data[: int(share * len(data))])
        try:
            clip = load_video(path, on_damage="keep", isolate=False)
        except MediaError:
            continue
        wrong = [(g, i) for g, i in zip(numbers(clip.frames), clip.indices, strict=True) if g != i]
        assert clip.quality == "degraded" or not wrong, (share, wrong)
