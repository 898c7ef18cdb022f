"""decord gives the right frames or none: what it would get wrong is refused, with the way out named."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.readers import Request, pyav, reader_of
from vlm_selfalign.media.sampling import FEWER
from vlm_selfalign.media.video import load_video

from ..awkward import PLAIN, SPECIAL, trimmed
from ..clips import ORDINARY, Recipe, folder, made, numbers, steady

decord = pytest.importorskip("decord")
reader = pytest.importorskip("vlm_selfalign.media.readers.decord")

H264 = ORDINARY[0]


def label(recipe: Recipe) -> str:
    return f"{recipe.name}.{recipe.suffix}"


def find(name: str) -> Recipe:
    return next(recipe for recipe in (*ORDINARY, *PLAIN) if label(recipe) == name)


READS = [
    *("h264.mp4", "h264.mkv", "h264.mov", "variable.mp4", "variable.mkv", "turned-90.mp4", "turned-180.mp4"),
    *("turned-270.mp4", "odd-444.mp4", "ten-bit.mp4", "one.mp4", "fast-1000.mp4", "film.mkv", "interlaced.mp4"),
    *("one-key.mp4", "grey.mp4", "rgb.mp4"),
]


@pytest.mark.parametrize("name", READS)
def test_what_it_reads_is_what_pyav_reads(name: str) -> None:
    recipe = find(name)
    path = str(made(recipe))
    for count in (8, 64):
        clip, ours = reader.read(path, Request(frames=count)), pyav.read(path, Request(frames=count))
        assert numbers(clip.frames) == recipe.wanted(count)
        assert clip.times.tolist() == ours.times.tolist() and clip.indices.tolist() == ours.indices.tolist()
        assert (clip.backend, clip.quality, clip.reasons) == ("decord", "ok", ours.reasons)
        assert (clip.fps, clip.total, clip.duration) == (ours.fps, ours.total, ours.duration)
        assert clip.frames.dtype == np.uint8 and clip.frames.shape == ours.frames.shape


@pytest.mark.parametrize("recipe", [*ORDINARY, *PLAIN], ids=label)
def test_no_clip_is_read_wrongly(recipe: Recipe) -> None:
    try:
        clip = reader.read(str(made(recipe)), Request(frames=16))
    except MediaError as error:
        assert label(recipe) not in READS
        assert error.reason == reader.UNFIT or error.reason == "cannot be decoded"
    else:
        assert numbers(clip.frames) == recipe.wanted(16)


@pytest.mark.parametrize("make", SPECIAL)
def test_no_special_clip_is_read_wrongly(make) -> None:
    path, recipe = make(folder())
    try:
        clip = reader.read(str(path), Request(frames=16))
    except MediaError as error:
        assert error.reason == reader.UNFIT and error.stage == "header"
    else:
        assert numbers(clip.frames) == recipe.wanted(16)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("h264.ts", "h264 in mpegts"),
        ("vp9.webm", "vp9 in matroska,webm"),
        ("late.mp4", "the first frame is not shown at 0"),
        ("hevc.mp4", "open GOP"),
        ("open-264.mkv", "open GOP"),
        ("open-265.mp4", "open GOP"),
    ],
)
def test_it_says_why_not_and_what_to_do(name: str, why: str) -> None:
    with pytest.raises(MediaError, match=rf"use backend='auto' \(.*{why}"):
        reader.read(str(made(find(name))), Request())


def test_an_edit_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="an edit list or a cut at an open GOP hides frames"):
        reader.read(str(trimmed(tmp_path)[0]), Request())


@pytest.mark.parametrize("name", ["hevc.mkv", "open-264.mp4", "open-264.mkv", "open-265.mp4", "refresh.mkv"])
def test_open_gops_are_refused_for_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = find(name)
    monkeypatch.setattr(reader, "_open_gop", lambda table: False)
    got = numbers(reader.read(str(made(recipe)), Request(frames=16)).frames)
    assert got != recipe.wanted(16), "decord reads open GOPs rightly now: the check can go"


def test_disagreement_about_count_or_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path, table = str(made(H264)), pyav.table_of(str(made(H264)), Request())
    for other, why in [
        (replace(table, packets=table.packets[:-1]), "decord counts 150 frames, the packets 149"),
        (replace(table, tick=table.tick * 1.1), "decord has other times"),
    ]:
        monkeypatch.setattr("vlm_selfalign.media.readers.plan.scan", lambda *_, other=other: other)
        with pytest.raises(MediaError, match=why):
            reader.read(path, Request())


def test_segments_rates_and_short_clips() -> None:
    path = str(made(find("variable.mp4")))
    clip = reader.read(path, Request(frames=None, fps=2, start=4, end=24))
    assert numbers(clip.frames) == [find("variable.mp4").shown(4.25 + k / 2) for k in range(40)]
    assert reader.read(str(made(find("one.mp4"))), Request(frames=8)).reasons == (FEWER,)


def test_limits_hold() -> None:
    path = str(made(H264))
    with pytest.raises(MediaError, match="too many pixels"):
        reader.read(path, Request(max_pixels=96 * 64 - 1))
    with pytest.raises(MediaError, match="too many pixels in all"):
        reader.read(path, Request(frames=8, max_output=8 * 96 * 64 * 3 - 1))
    with pytest.raises(MediaError, match="the segment lies outside the clip"):
        reader.read(path, Request(start=10))
    with pytest.raises(UserError):
        reader.read(path, Request(frames=0))


def test_damage_that_packets_show_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    data = made(find("h264.mkv")).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    try:
        assert reader.read(str(path), Request()).quality == "degraded"
    except MediaError as error:
        assert error.reason in (reader.UNFIT, "cannot be decoded", "no frames")


def test_odd_names_and_bridges(tmp_path: Path) -> None:
    recipe = H264
    path = os.fsencode(tmp_path) + b"/a\xff b\n.mp4"
    with open(path, "wb") as file:
        file.write(made(recipe).read_bytes())
    decord.bridge.set_bridge("torch")
    try:
        clip = reader.read(os.fsdecode(path), Request(frames=8))
    finally:
        decord.bridge.set_bridge("native")
    assert isinstance(clip.frames, np.ndarray) and numbers(clip.frames) == recipe.wanted(8)


def test_lists_of_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(made(H264).read_bytes())
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:5,\n{tmp_path}/real.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError, match="not a clip"):
        reader.read(str(playlist), Request())
    with pytest.raises(MediaError, match="no such file"):
        reader.read("http://127.0.0.1:9/x.mp4", Request())


def test_nothing_is_left_open() -> None:
    path = str(made(H264))
    reader.read(path, Request(frames=4))
    files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for _ in range(30):
        reader.read(path, Request(frames=4))
    assert len(os.listdir("/proc/self/fd")) == files and len(os.listdir("/proc/self/task")) == threads


def test_it_is_chosen_by_name_and_never_otherwise() -> None:
    path = made(find("h264.ts"))
    assert load_video(made(H264), frames=4, backend="decord").backend == "decord"
    assert load_video(path, frames=4).backend == "pyav"
    with pytest.raises(MediaError, match="use backend='auto'"):
        load_video(path, frames=4, backend="decord")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.delitem(sys.modules, "vlm_selfalign.media.readers.decord")
    with pytest.raises(UserError, match=r"'decord' needs a package .*: pip install decord"):
        load_video(made(H264), backend="decord")
    assert reader_of("auto") is pyav.read


def test_steady_clips_of_any_key_distance() -> None:
    for gop in (1, 7, 250):
        recipe = Recipe(f"gop-{gop}", times=steady(90), gop=gop)
        assert numbers(reader.read(str(made(recipe)), Request(frames=90)).frames) == list(range(90))
