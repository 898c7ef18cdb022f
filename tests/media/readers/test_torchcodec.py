"""torchcodec gives the right frames or none; without it the message says how to get it."""

from __future__ import annotations

import os
import subprocess
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
from ..clips import ORDINARY, Recipe, folder, made, numbers

H264 = ORDINARY[0]

READS = [
    *("h264.mp4", "h264.mkv", "h264.mov", "h264.flv", "hevc.mp4", "hevc.mkv", "vp9.webm", "av1.mp4", "wmv2.wmv"),
    *("gif.gif", "mjpeg.mov", "variable.mp4", "variable.webm", "open-264.mkv", "open-265.mp4", "turned-90.mp4"),
    *("ten-bit.mp4", "one.mp4", "fast-1000.mp4", "late.mp4", "fragments.mp4", "alpha.mov"),
]


def label(recipe: Recipe) -> str:
    return f"{recipe.name}.{recipe.suffix}"


def find(name: str) -> Recipe:
    return next(recipe for recipe in (*ORDINARY, *PLAIN) if label(recipe) == name)


def works() -> bool:
    """Looked up in a process of its own: this one stays free of its libraries when they do not fit."""
    command = [sys.executable, "-c", "import vlm_selfalign.media.readers.torchcodec"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def read():
    if not works():
        pytest.skip("torchcodec or FFmpeg is not installed")
    from vlm_selfalign.media.readers.torchcodec import read

    return read


@pytest.mark.parametrize("name", READS)
def test_what_it_reads_is_what_pyav_reads(name: str, read) -> None:
    recipe = find(name)
    path = str(made(recipe))
    for count in (8, 64):
        clip, ours = read(path, Request(frames=count)), pyav.read(path, Request(frames=count))
        assert numbers(clip.frames) == numbers(ours.frames) == clip.indices.tolist()
        assert np.abs(clip.indices - recipe.wanted(count)).max() <= 1  # some containers round times
        assert clip.times.tolist() == ours.times.tolist() and clip.indices.tolist() == ours.indices.tolist()
        assert (clip.backend, clip.quality, clip.reasons) == ("torchcodec", "ok", ours.reasons)
        assert clip.frames.dtype == np.uint8 and clip.frames.shape == ours.frames.shape


@pytest.mark.parametrize("recipe", [*ORDINARY, *PLAIN], ids=label)
def test_no_clip_is_read_wrongly(recipe: Recipe, read) -> None:
    try:
        clip = read(str(made(recipe)), Request(frames=16))
    except MediaError as error:
        assert label(recipe) not in READS
        assert error.stage == "decode"
    else:
        assert np.abs(np.array(numbers(clip.frames)) - recipe.wanted(16)).max() <= 1


@pytest.mark.parametrize("make", SPECIAL)
def test_no_special_clip_is_read_wrongly(make, read) -> None:
    path, recipe = make(folder())
    try:
        clip = read(str(path), Request(frames=16))
    except MediaError as error:
        assert "use backend='auto'" in error.reason
    else:
        assert numbers(clip.frames) == recipe.wanted(16)


def test_an_edit_list_is_read_rightly(read, tmp_path: Path) -> None:
    path, recipe = trimmed(tmp_path)
    assert numbers(read(str(path), Request(frames=16)).frames) == recipe.wanted(16)


def test_what_disagrees_with_the_packets_is_refused(read, monkeypatch: pytest.MonkeyPatch) -> None:
    path, table = str(made(H264)), pyav.table_of(str(made(H264)), Request())
    for other, why in [
        (replace(table, packets=table.packets[:-1]), "it counts 150 frames, the packets 149"),
        (replace(table, tick=table.tick * 1.1), "beside its time"),
    ]:
        monkeypatch.setattr("vlm_selfalign.media.readers.plan.scan", lambda *_, other=other: other)
        with pytest.raises(MediaError, match=f"use backend='auto' .*{why}"):
            read(path, Request())


def test_segments_limits_and_short_clips(read) -> None:
    variable = find("variable.mp4")
    clip = read(str(made(variable)), Request(frames=None, fps=2, start=4, end=24))
    assert numbers(clip.frames) == [variable.shown(4.25 + k / 2) for k in range(40)]
    assert read(str(made(find("one.mp4"))), Request(frames=8)).reasons == (FEWER,)
    with pytest.raises(MediaError, match="too many pixels in all"):
        read(str(made(H264)), Request(frames=8, max_output=8 * 96 * 64 * 3 - 1))


def test_a_device_that_is_not_there_is_an_error(read) -> None:
    with pytest.raises(MediaError, match="cannot be decoded"):
        read(str(made(H264)), Request(frames=4), device="cuda:99")


def test_nothing_is_left_open(read) -> None:
    path = str(made(H264))
    read(path, Request(frames=4))
    files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for _ in range(30):
        read(path, Request(frames=4))
    assert len(os.listdir("/proc/self/fd")) == files and len(os.listdir("/proc/self/task")) == threads


def test_it_runs_in_a_child(read) -> None:
    clip = load_video(made(H264), frames=8, backend="torchcodec")
    assert clip.backend == "torchcodec" and numbers(clip.frames) == H264.wanted(8)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    monkeypatch.delitem(sys.modules, "vlm_selfalign.media.readers.torchcodec", raising=False)
    with pytest.raises(UserError, match=r"'torchcodec' needs a package .*pip install 'vlm-selfalign\[torchcodec\]'"):
        load_video(made(H264), backend="torchcodec")
    assert reader_of("auto") is pyav.read
