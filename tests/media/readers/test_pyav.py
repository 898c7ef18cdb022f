"""Right frames, by the numbers drawn on them, on ordinary and on awkward clips; colours as ffmpeg's; nothing leaks."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.readers import Request, pyav, reader_of
from vlm_selfalign.media.readers.pyav import UNTIMED, read, table_of
from vlm_selfalign.media.sampling import FEWER

from ..awkward import PLAIN, SPECIAL
from ..clips import ORDINARY, Recipe, changed, folder, made, numbers, picture, steady

H264 = ORDINARY[0]


def label(recipe: Recipe) -> str:
    return f"{recipe.name}.{recipe.suffix}"


def check(clip: Clip, recipe: Recipe, count: int, tolerance: int = 1) -> None:
    """Right, upright, RGB, timed, honest about its numbers."""
    got, wanted = numbers(clip.frames), recipe.wanted(count)
    assert len(got) == len(wanted)
    assert all(g is not None and abs(g - w) <= tolerance for g, w in zip(got, wanted, strict=True)), (got, wanted)
    assert [g - recipe.first for g in got if g is not None] == clip.indices.tolist()
    true = [float(recipe.times[k] - recipe.times[0]) for k in clip.indices]
    assert clip.times == pytest.approx(true, abs=0.001)
    assert (clip.total, clip.backend) == (len(recipe.times), "pyav")
    assert clip.frames.dtype == np.uint8
    assert clip.frames.shape[1:] == (recipe.height, recipe.width, 3)


@pytest.mark.parametrize("recipe", ORDINARY, ids=label)
def test_ordinary_clips(recipe: Recipe) -> None:
    path = str(made(recipe))
    for count in (8, 16, 32, 64):
        clip = read(path, Request(frames=count))
        check(clip, recipe, count)
        assert (clip.quality, clip.reasons) == ("ok", ())


@pytest.mark.parametrize("recipe", PLAIN, ids=label)
def test_awkward_clips(recipe: Recipe) -> None:
    path = str(made(recipe))
    for count in (8, 32):
        clip = read(path, Request(frames=count))
        check(clip, recipe, count)
        assert clip.quality == "ok", clip.reasons
        assert (FEWER in clip.reasons) == (len(recipe.wanted(count)) < count)
        assert (UNTIMED in clip.reasons) == (recipe.name == "raw")


@pytest.mark.parametrize("maker", SPECIAL, ids=lambda maker: maker.__name__)
def test_cut_and_joined_clips(maker: Callable[[Path], tuple[Path, Recipe]]) -> None:
    path, recipe = maker(folder())
    cut = maker.__name__.startswith("cut")
    for count in (8, 32):
        clip = read(str(path), Request(frames=count))
        # What was cut off leaves frames that nothing can decode: a neighbour is shown, and said to be one.
        check(clip, recipe, count, tolerance=2 if cut else 1)
        assert cut or clip.quality == "ok", clip.reasons


def test_several_threads_decode_the_same() -> None:
    for recipe in ORDINARY[:9]:
        alone, several = (read(str(made(recipe)), Request(frames=16, threads=threads)) for threads in (1, 3))
        assert np.array_equal(alone.frames, several.frames)
        assert alone.reasons == several.reasons


def test_segments_rates_and_left_ends() -> None:
    path = str(made(H264))
    segment = read(path, Request(frames=4, start=1.0, end=3.0, policy="left"))
    assert numbers(segment.frames) == [30, 45, 60, 75]
    assert segment.times == pytest.approx([1, 1.5, 2, 2.5])
    assert (segment.total, segment.duration) == (150, pytest.approx(5))
    rate = read(path, Request(frames=None, fps=2))
    assert numbers(rate.frames) == [7, 22, 37, 52, 67, 82, 97, 112, 127, 142]
    with pytest.raises(MediaError, match="outside the clip"):
        read(path, Request(frames=4, start=5.0))
    with pytest.raises(UserError):
        read(path, Request(frames=None))


def test_long_gaps_are_jumped_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame from each of many GOPs costs only those GOPs: packets in between are read, never decoded."""
    path = str(made(changed(H264, name="many-keys", gop=10, times=steady(400))))
    sent = 0

    def counted(*lines: object) -> None:
        nonlocal sent
        sent += 1

    decoded = pyav._Flow._decoded
    monkeypatch.setattr(pyav._Flow, "_decoded", lambda self, packet: (counted(), decoded(self, packet))[1])
    clip = read(path, Request(frames=4))
    assert numbers(clip.frames) == [50, 150, 250, 350]
    assert sent < 100


def test_the_table_is_read_without_decoding() -> None:
    table = table_of(str(made(H264)), Request())
    assert (len(table), table.duration, table.average_rate) == (150, pytest.approx(5), pytest.approx(30))


def ffmpeg_rgb(path: Path) -> np.ndarray:
    """The first frame through FFmpeg's own filters, as its program converts it."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    graph, frame.pts = Graph(), 0
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    graph.link_nodes(source, graph.add("scale"), graph.add("format", "rgb24"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull().to_ndarray()


COLOURED = [
    r for r in PLAIN if r.name in ("odd", "odd-444", "ten-bit", "hdr", "full-range", "interlaced", "rgb", "grey")
]


@pytest.mark.parametrize("recipe", [*ORDINARY, *COLOURED], ids=label)
def test_colours_are_those_of_ffmpeg(recipe: Recipe) -> None:
    clip = read(str(made(recipe)), Request(frames=1, policy="left"))
    assert np.array_equal(clip.frames[0], ffmpeg_rgb(made(recipe)))


@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114)])
@pytest.mark.parametrize("full", [False, True])
def test_colours_are_those_of_the_standard(matrix: int, kr: float, kb: float, full: bool, tmp_path: Path) -> None:
    """Red in BT.709 and BT.601, limited and full range, by the standards' own equations."""
    red = np.array([200.0, 30.0, 60.0])
    luma = kr * red[0] + (1 - kr - kb) * red[1] + kb * red[2]
    chroma = np.array([(red[2] - luma) / (2 - 2 * kb), (red[0] - luma) / (2 - 2 * kr)])
    y, uv = (luma, 128 + chroma) if full else (16 + luma * 219 / 255, 128 + chroma * 224 / 255)
    frame = av.VideoFrame(64, 64, "yuv420p")
    for plane, value in zip(frame.planes, (y, *uv), strict=True):
        plane.update(bytes([round(value)]) * (plane.line_size * plane.height))
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    with av.open(str(tmp_path / "red.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = read(str(tmp_path / "red.mkv"), Request(frames=1)).frames[0]
    assert np.abs(shown.astype(int) - red).max() <= 3


@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_and_mirrored_clips_stand_upright(degrees: int, flip: tuple[bool, bool], tmp_path: Path) -> None:
    """A player turns the stored frame counter-clockwise, then mirrors it."""
    stored = picture(7, 96, 64)
    shown = np.rot90(stored, degrees // 90)
    shown = shown[:, ::-1] if flip[0] else shown
    shown = shown[::-1] if flip[1] else shown
    with av.open(str(tmp_path / "turned.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
        stream.set_display_rotation(degrees, *flip)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, "rgb24")))
        container.mux(stream.encode(None))
    assert np.array_equal(read(str(tmp_path / "turned.mov"), Request(frames=1)).frames[0], shown)


def test_what_is_transparent_is_seen_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[:, 32:, 0], pixels[:, 32:64, 3], pixels[:, 64:, 3] = 200, 128, 255
    with av.open(str(tmp_path / "glass.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "argb"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format="argb")))
        container.mux(stream.encode(None))
    (frame,) = read(str(tmp_path / "glass.mov"), Request(frames=1)).frames
    assert [frame[10, x].tolist() for x in (10, 40, 80)] == [[255, 255, 255], [227, 127, 127], [200, 0, 0]]


def test_limits_are_kept_before_frames_are_made() -> None:
    path = str(made(H264))
    with pytest.raises(MediaError, match="too many pixels") as caught:
        read(path, Request(max_pixels=6000))
    assert caught.value.stage == "header"
    with pytest.raises(MediaError, match="too many pixels in all"):
        read(path, Request(frames=64, max_output=1_000_000))


def test_four_threads_get_the_same_frames_and_their_own_errors(tmp_path: Path) -> None:
    sound = [str(made(recipe)) for recipe in ORDINARY[:8]]
    broken = tmp_path / "broken.ts"
    broken.write_bytes(bytes(b ^ (k % 97 == 0) * 16 for k, b in enumerate(made(ORDINARY[3]).read_bytes())))
    alone = [read(path, Request(frames=8)) for path in [*sound, str(broken)]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: read(path, Request(frames=8)), [*sound, str(broken)] * 3))
    for k, clip in enumerate(together):
        assert np.array_equal(clip.frames, alone[k % 9].frames)
        assert clip.reasons == alone[k % 9].reasons
    assert alone[8].quality == "degraded"


def test_the_same_fault_in_two_clips_is_heard_twice(tmp_path: Path) -> None:
    """FFmpeg's log drops a line that repeats the one before, even when that was another file's."""
    data = made(ORDINARY[1]).read_bytes()
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    clips = [read(str(tmp_path / name), Request(frames=8)) for name in ("a.mkv", "b.mkv", "a.mkv")]
    assert [clip.quality for clip in clips] == ["degraded"] * 3
    assert len({clip.reasons for clip in clips}) == 1
    assert av.logging.get_level() is None


def test_nothing_leaks_after_200_opens(tmp_path: Path) -> None:
    good, cut = str(made(H264)), tmp_path / "cut.mp4"
    cut.write_bytes(made(H264).read_bytes()[:5000])

    def opened() -> None:
        read(good, Request(frames=2, threads=2))
        with pytest.raises(MediaError):
            read(str(cut), Request(frames=2))

    opened()
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), threading.active_count()
    for _ in range(100):
        opened()
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), threading.active_count()) == before


def test_readers_by_name() -> None:
    assert reader_of("auto") is reader_of("pyav") is read
    with pytest.raises(UserError, match="pyav"):
        reader_of("pyaw")
