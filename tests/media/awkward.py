"""Legal clips that loaders get wrong: how each is made, and which of its frames is shown when."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from .clips import Recipe, add, changed, make, packets, steady

VARIABLE = (
    *(Fraction(k, 30) for k in range(120)),
    *(4 + Fraction(k, 2) for k in range(40)),
    *(24 + Fraction(k, 60) for k in range(120)),
)
"""4 s at 30 frames a second, 20 s at 2, 2 s at 60."""

_SHORT = steady(60)
_X265 = "log-level=none:pools=1:frame-threads=1:"
_OPEN_264 = (("x264-params", "open-gop=1:bframes=3:b-adapt=0:scenecut=0"), ("preset", "medium"))
_OPEN_265 = (("x265-params", f"{_X265}open-gop=1:bframes=4:b-adapt=0:scenecut=0"), ("preset", "fast"))
_PQ = (("color_trc", 16), ("color_primaries", 9), ("colorspace", 9))
_FRAGMENTS = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)


def _vp9(name: str, **fields: object) -> Recipe:
    return changed(Recipe(name, "libvpx-vp9", "webm"), **fields)


PLAIN: tuple[Recipe, ...] = (
    Recipe("variable", times=VARIABLE),
    Recipe("variable", suffix="mkv", times=VARIABLE),
    _vp9("variable", times=VARIABLE),
    Recipe("open-264", options=_OPEN_264),
    Recipe("open-264", suffix="mkv", options=_OPEN_264),
    Recipe("open-264", suffix="ts", options=_OPEN_264),
    Recipe("open-265", "libx265", options=_OPEN_265),
    Recipe("open-265", "libx265", "mkv", options=_OPEN_265),
    Recipe("open-265", "libx265", "ts", options=_OPEN_265),
    _vp9("odd", width=97, height=65, times=_SHORT),
    Recipe("odd-444", width=97, height=65, pixels="yuv444p", times=_SHORT),
    Recipe("turned-90", rotation=90, times=_SHORT),
    Recipe("turned-180", rotation=180, times=_SHORT),
    Recipe("turned-270", rotation=-90, times=_SHORT),
    Recipe("ten-bit", pixels="yuv420p10le", times=_SHORT),
    Recipe("ten-bit-265", "libx265", pixels="yuv420p10le", times=_SHORT),
    Recipe("hdr", "libx265", "mkv", pixels="yuv420p10le", tags=_PQ, times=_SHORT),
    Recipe("alpha", "qtrle", "mov", pixels="argb", tick=Fraction(1, 30), times=_SHORT),
    Recipe("alpha-yuv", "ffv1", "mkv", pixels="yuva420p", times=_SHORT),
    Recipe("animated", "apng", "apng", pixels="rgba", tick=Fraction(1, 30), times=_SHORT),
    Recipe("one", times=steady(1)),
    Recipe("one", "gif", "gif", times=steady(1), tick=Fraction(1, 100), pixels="rgb8"),
    Recipe("two", suffix="mkv", times=steady(2)),
    Recipe("slow", times=steady(20, Fraction(1, 10)), rate=Fraction(1, 10)),
    Recipe("fast-240", times=steady(240, 240), rate=Fraction(240)),
    Recipe("fast-1000", times=steady(300, 1000), rate=Fraction(1000)),
    Recipe("film", suffix="mkv", times=steady(100, Fraction(24000, 1001)), rate=Fraction(24000, 1001)),
    Recipe("late", suffix="mkv", offset=Fraction(100)),
    Recipe("late", suffix="mp4", offset=Fraction(100)),
    Recipe("late", suffix="ts", offset=Fraction(40_000)),
    Recipe("wrap", suffix="ts", offset=Fraction(95_441)),
    Recipe("live", suffix="mkv", muxing=(("live", "1"),)),
    Recipe("fragments", muxing=_FRAGMENTS),
    Recipe("interlaced", options=(("x264-params", "interlaced=1:tff=1"),)),
    Recipe("raw", suffix="h264", times=steady(150, 25), rate=Fraction(25)),
    Recipe("raw", "libx265", "hevc"),
    Recipe("ivf", "libvpx-vp9", "ivf"),
    Recipe("refresh", suffix="mkv", options=(("x264-params", "intra-refresh=1:keyint=40"),)),
    Recipe("one-key", gop=1000, times=steady(200)),
    Recipe("many-b", suffix="ts", options=(("x264-params", "bframes=8:b-pyramid=normal:b-adapt=0"),)),
    Recipe("grey", pixels="gray", times=_SHORT),
    Recipe("rgb", "libx264rgb", pixels="rgb24", times=_SHORT),
    Recipe("full-range", pixels="yuv420p", tags=(("color_range", 2),), times=_SHORT),
    Recipe("prores", "prores_ks", "mov", pixels="yuv422p10le", tick=Fraction(1, 30), times=_SHORT),
    Recipe("mjpeg", "mjpeg", "avi", pixels="yuvj420p", tick=Fraction(1, 30), times=_SHORT),
    Recipe("mpeg1", "mpeg1video", "mpg", tick=Fraction(1, 30), options=(("bf", "2"),)),
    Recipe("mpeg2", "mpeg2video", "ts", tick=Fraction(1, 30), options=(("bf", "2"),)),
    Recipe("xvid", "mpeg4", "mkv", tick=Fraction(1, 30), options=(("bf", "2"),)),
    Recipe("sorenson", "flv", "flv", tick=Fraction(1, 30), times=_SHORT),
    Recipe("small", width=32, height=16, times=_SHORT),
)


def trimmed(folder: Path) -> tuple[Path, Recipe]:
    """A lossless cut: 65 frames are stored for the sake of those after them, and an edit list hides them."""
    whole = Recipe("trimmed", times=steady(150), offset=Fraction(-65, 30), gop=48)
    path = make(changed(whole, muxing=(("avoid_negative_ts", "disabled"),)), folder)
    return path, changed(whole, first=65, times=steady(85), offset=Fraction(0))


def two_streams(folder: Path) -> tuple[Path, Recipe]:
    """A small second picture beside the main one, other numbers on it."""
    main, path = Recipe("two-streams", suffix="mkv"), folder / "two-streams.mkv"
    other = changed(main, width=32, height=16, first=5000)
    with av.open(str(path), "w") as container:
        streams = [(add(container, recipe), recipe) for recipe in (main, other)]
        for stream, recipe in streams:
            for packet in packets(stream, recipe):
                container.mux(packet)
    return path, main


def with_sound(folder: Path) -> tuple[Path, Recipe]:
    """A sound track that is longer than the picture and starts before it."""
    recipe, path = Recipe("sound", offset=Fraction(1, 2)), folder / "sound.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        stream = add(container, recipe)
        for k in range(70):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.planes[0].update(bytes(4096))
            frame.sample_rate, frame.pts = 8000, k * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        for packet in packets(stream, recipe):
            container.mux(packet)
    return path, recipe


def _joined(name: str, folder: Path, *parts: Recipe) -> Path:
    path = folder / f"{name}.ts"
    path.write_bytes(_counted(b"".join(make(part, folder).read_bytes() for part in parts)))
    return path


def _counted(stream: bytes) -> bytes:
    """A transport stream with its packets counted anew: a gap in the count says that bytes were lost."""
    packets, counts = bytearray(stream), dict[int, int]()
    for start in range(0, len(packets), 188):
        kind = (packets[start + 1] << 8 | packets[start + 2]) & 0x1FFF
        counts[kind] = counts.get(kind, -1) + (packets[start + 3] >> 4 & 1)
        packets[start + 3] = packets[start + 3] & 0xF0 | counts[kind] & 0x0F
    return bytes(packets)


def clock_reset(folder: Path) -> tuple[Path, Recipe]:
    """Two broadcasts cut together: the clock starts again in the middle."""
    first = Recipe("part-1", suffix="ts", times=steady(75))
    path = _joined("clock-reset", folder, first, changed(first, name="part-2", first=75))
    return path, Recipe("clock-reset", times=steady(150))


def clock_leap(folder: Path) -> tuple[Path, Recipe]:
    """The clock leaps ahead by an hour between two frames."""
    first = Recipe("leap-1", suffix="ts", times=steady(75))
    path = _joined("clock-leap", folder, first, changed(first, name="leap-2", first=75, offset=Fraction(3600)))
    return path, Recipe("clock-leap", times=steady(150))


def size_change(folder: Path) -> tuple[Path, Recipe]:
    """The picture grows in the middle."""
    first = Recipe("size-1", suffix="ts", times=steady(75))
    second = changed(first, name="size-2", first=75, offset=Fraction(77, 30), width=192, height=128)
    return _joined("size-change", folder, first, second), Recipe("size-change", times=steady(150))


def _copied(source: Path, target: Path, begin: Callable[[int, av.Packet], bool]) -> None:
    """The packets of a clip from the first that ``begin`` accepts."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        started = False
        for k, packet in enumerate(old.demux(video=0)):
            started = started or begin(k, packet)
            if started and packet.dts is not None:
                packet.stream = stream
                new.mux(packet)


def cut_at_key(folder: Path) -> tuple[Path, Recipe]:
    """An open GOP at the very start: its first three frames need frames that are gone."""
    source = make(Recipe("whole-265", "libx265", "ts", options=_OPEN_265, times=steady(150)), folder)
    path = folder / "cut-at-key.ts"
    _copied(source, path, lambda k, packet: k > 40 and packet.is_keyframe)
    return path, Recipe("cut-at-key", first=45, times=steady(105))


def cut_anywhere(folder: Path) -> tuple[Path, Recipe]:
    """A recording that begins in the middle of a GOP: nothing can be shown before the next key frame."""
    source = make(Recipe("whole-264", suffix="ts", options=(("bf", "0"),), times=steady(150)), folder)
    path = folder / "cut-anywhere.ts"
    _copied(source, path, lambda k, packet: k == 40)
    return path, Recipe("cut-anywhere", first=56, times=steady(94))


SPECIAL = (
    trimmed,
    two_streams,
    with_sound,
    clock_reset,
    clock_leap,
    size_change,
    cut_at_key,
    cut_anywhere,
)
