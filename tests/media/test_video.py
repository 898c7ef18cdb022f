"""What ``load_video`` promises about files: right frames or one reason, whatever the name says, and no other file."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media, View
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.isolation import Limits
from vlm_selfalign.media.uris import opener
from vlm_selfalign.media.video import load_video, video_media

from .clips import ORDINARY, Recipe, changed, made, numbers, picture, steady

H264, MKV, GIF = ORDINARY[0], ORDINARY[1], next(r for r in ORDINARY if r.name == "gif")


def copy(recipe: Recipe, path: Path) -> str:
    path.write_bytes(made(recipe).read_bytes())
    return str(path)


def refusal(source: object) -> MediaError:
    with pytest.raises(MediaError) as caught:
        load_video(source, isolate=False)  # type: ignore[arg-type]
    assert caught.value.stage in ("open", "header", "decode")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("isolate", [True, False])
def test_a_path_gives_frames_with_their_times(isolate: bool) -> None:
    clip = load_video(made(H264), isolate=isolate)
    assert numbers(clip.frames) == H264.wanted(16)
    assert clip.times == pytest.approx([float(H264.times[k]) for k in clip.indices])
    assert (clip.quality, clip.reasons, clip.fps, clip.total) == ("ok", (), pytest.approx(30), 150)
    assert clip.metadata.timestamps == pytest.approx(clip.times.tolist(), abs=0.0005)


def test_the_child_gives_the_same_as_the_reader_here() -> None:
    for recipe in ORDINARY[:4]:
        there, here = (load_video(made(recipe), fps=5, isolate=isolate) for isolate in (True, False))
        assert np.array_equal(there.frames, here.frames)
        assert there.times.tolist() == here.times.tolist()


def test_a_media_is_checked_cut_and_viewed(tmp_path: Path) -> None:
    path = copy(H264, tmp_path / "a.mp4")
    media = video_media(path)
    assert (media.kind, media.uri, len(media.content_hash)) == ("video", path, 32)
    part = media.model_copy(update={"start": 1.0, "end": 3.0})
    assert numbers(load_video(part, frames=4).frames) == [37, 52, 67, 82]
    assert numbers(load_video(part, frames=4, end=2.0).frames) == [33, 41, 48, 56]
    assert numbers(load_video(part.viewed("reverse"), frames=4).frames) == [82, 67, 52, 37]
    copy(changed(H264, gop=12), tmp_path / "a.mp4")
    assert load_video(path, frames=4).total == 150
    with pytest.raises(MediaError, match="changed since it was listed"):
        load_video(media)
    with pytest.raises(MediaError, match="a picture, not a clip"):
        load_video(Media(kind="image", uri=path, content_hash=""))
    with pytest.raises(UserError, match="no view"):
        load_video(Media(kind="video", uri=path, content_hash="", views=(View(name="nois"),)))


def test_listing_checks_without_decoding(tmp_path: Path) -> None:
    assert video_media(copy(MKV, tmp_path / "b.webm")).content_hash == video_media(str(made(MKV))).content_hash
    (tmp_path / "notes.mp4").write_text("no clip\n")
    with pytest.raises(MediaError, match="not a clip but text"):
        video_media(str(tmp_path / "notes.mp4"))


def test_what_cannot_be_asked_for() -> None:
    path = made(H264)
    for wrong in ({"frames": 8, "fps": 1.0}, {"frames": 0}, {"backend": "opencv"}, {"on_damage": "hide"}):
        with pytest.raises(UserError):
            load_video(path, **wrong)  # type: ignore[arg-type]


def test_damage_is_refused_or_kept_and_marked(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(made(MKV).read_bytes()[:-6000])
    with pytest.raises(MediaError, match="damaged: ") as caught:
        load_video(broken)
    assert caught.value.stage == "decode"
    kept = load_video(broken, on_damage="keep")
    assert kept.quality == "degraded"
    assert kept.reasons
    assert numbers(kept.frames) == kept.indices.tolist()


def test_a_decoder_that_takes_too_long_or_too_much_costs_its_clip_only() -> None:
    big = made(Recipe("big", width=1920, height=1080, times=steady(8), options=(("preset", "ultrafast"),)))
    with pytest.raises(MediaError, match="longer than"):
        load_video(big, limits=Limits(seconds=0.001))
    with pytest.raises(MediaError, match="more memory than"):
        load_video(big, limits=Limits(memory=30 << 20))
    assert numbers(load_video(big, frames=4).frames) == [1, 3, 5, 7]


def test_a_source_may_draw_its_clips_or_keep_their_bytes() -> None:
    whole = load_video(made(H264), frames=150, isolate=False)
    opener("drawn-clip")(lambda uri: whole)  # type: ignore[arg-type]
    opener("kept-clip")(lambda uri: made(H264).read_bytes() if uri.endswith(":1") else b"nothing")
    for uri in ("drawn-clip:1", "kept-clip:1"):
        clip = load_video(uri, frames=4, start=1.0, end=3.0)
        assert numbers(clip.frames) == [37, 52, 67, 82]
        assert clip.times == pytest.approx([37 / 30, 52 / 30, 67 / 30, 82 / 30])
    assert refusal("kept-clip:2").path == "kept-clip:2"


# What is no clip, or not the clip it says it is.


def sound_only(path: Path, cover: bool = False) -> str:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 96, 64, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
            container.mux(art.encode(av.VideoFrame.from_ndarray(picture(1), "rgb24")))
        for k in range(20):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.planes[0].update(bytes(4096))
            frame.sample_rate, frame.pts = 8000, k * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return str(path)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_is_no_clip_even_with_a_cover(cover: bool, tmp_path: Path) -> None:
    assert refusal(sound_only(tmp_path / "song.mp4", cover)).reason == "no video stream"


NO_CLIPS = {
    "text.mp4": b"just some notes\n",
    "zero.mp4": b"\0",
    "zeros.mp4": bytes(5000),
    "random.mp4": np.random.default_rng(3).bytes(20_000),
    "page.mp4": b"<!doctype html><html><body>404</body></html>",
    "lfs.mp4": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "box.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free",
}


@pytest.mark.parametrize("name", NO_CLIPS)
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(NO_CLIPS[name])
    assert refusal(str(tmp_path / name)).stage == "header"


@pytest.mark.parametrize("end", [40, 600])
def test_a_header_alone_is_refused(end: int, tmp_path: Path) -> None:
    (tmp_path / "head.mkv").write_bytes(made(MKV).read_bytes()[:end])
    assert refusal(str(tmp_path / "head.mkv")).stage in ("header", "decode")


@pytest.mark.parametrize(("recipe", "name"), [(MKV, "a.mp4"), (GIF, "b.mkv"), (H264, "c.jpg")])
def test_the_content_counts_not_the_name(recipe: Recipe, name: str, tmp_path: Path) -> None:
    assert numbers(load_video(copy(recipe, tmp_path / name), frames=8, isolate=False).frames) == recipe.wanted(8)


def lying(data: bytes, box: bytes, place: int, value: bytes) -> bytes:
    start = data.index(box) + place
    return data[:start] + value + data[start + len(value) :]


LIES = {
    "longer than the file": (b"mdat", -4, struct.pack(">I", 0xFFFFFFF0)),
    "shorter than itself": (b"moov", -4, struct.pack(">I", 5)),
    "two billion samples": (b"stsz", 12, struct.pack(">I", 2_000_000_000)),
    "samples beyond the end": (b"stco", 12, struct.pack(">I", 0x7FFFFFFF)),
    "chunks without end": (b"stsc", 16, struct.pack(">I", 0x7FFFFFFF)),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_boxes_are_refused_marked_or_harmless(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "lie.mp4"
    path.write_bytes(lying(made(H264).read_bytes(), *LIES[lie]))
    try:
        clip = load_video(path, on_damage="keep")
    except MediaError as error:
        assert error.stage in ("header", "decode")
    else:
        assert clip.quality == "degraded" or numbers(clip.frames) == H264.wanted(16)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "empty.mp4").touch()
    names = ("pipe.mp4", "loop.mp4", "empty.mp4", "none.mp4", "nul\0.mp4", "")
    assert {refusal(str(tmp_path / name)).stage for name in names} == {"open"}
    assert refusal("/dev/zero").stage == "open"


@pytest.mark.parametrize(
    "name", ["-i x.mp4", "%03d.mp4", "concat:a|b.mp4", "a b.mp4", "ü😀.mp4", "line\nbreak.mp4", b"\xff.mp4"]
)
def test_odd_names(name: str | bytes, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    Path(os.fsdecode(path)).write_bytes(made(H264).read_bytes())
    assert numbers(load_video(path, frames=4).frames) == H264.wanted(4)
    media = video_media(os.fsdecode(path))
    assert numbers(load_video(media, frames=4).frames) == H264.wanted(4)


# Nothing but the file itself is opened, near or far.


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address of this machine, and everything that was asked of it."""
    asked: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                with server.accept()[0] as one:
                    one.settimeout(1)
                    asked.append(one.recv(200).decode("latin-1"))
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.getsockname()[1]}", asked
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


LISTS = {
    "web.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://{host}/a.ts\n#EXT-X-ENDLIST\n",
    "web.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://{host}/a.ts\n#EXT-X-ENDLIST\n",
    "near.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{clip}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile {clip}\n",
    "beside.mp4": "ffconcat version 1.0\nfile clip.ts\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash.mpd": '<?xml version="1.0"?><MPD><Period><BaseURL>http://{host}/</BaseURL></Period></MPD>',
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_files_are_refused(name: str, listener: tuple[str, list[str]], tmp_path: Path) -> None:
    clip = copy(ORDINARY[3], tmp_path / "clip.ts")
    (tmp_path / name).write_text(LISTS[name].format(host=listener[0], clip=clip))
    assert refusal(str(tmp_path / name)).stage == "header"
    with pytest.raises(MediaError):
        load_video(str(tmp_path / name))
    assert listener[1] == []


@pytest.mark.parametrize("uri", ["http://{}/a.mp4", "https://{}/a.mp4", "rtmp://{}/a", "tcp://{}", "hls+http://{}/a"])
def test_addresses_are_not_fetched(uri: str, listener: tuple[str, list[str]]) -> None:
    assert refusal(uri.format(listener[0])).stage == "open"
    assert refusal(uri.format(listener[0]).encode()).stage == "open"
    assert listener[1] == []


def test_a_reference_to_another_file_inside_a_clip_is_not_followed(tmp_path: Path) -> None:
    """A QuickTime file may say that its frames lie elsewhere."""
    data = made(ORDINARY[2]).read_bytes()
    other = copy(ORDINARY[2], tmp_path / "other.mov").encode()
    alias = struct.pack(">I4sI", 12 + len(other) + 1, b"url ", 0) + other + b"\0"
    path = tmp_path / "elsewhere.mov"
    start = data.index(b"url ") - 4
    grown = data[:start] + alias + data[start + 12 :]
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        place = grown.index(box) - 4
        size = struct.unpack(">I", grown[place : place + 4])[0] + len(alias) - 12
        grown = grown[:place] + struct.pack(">I", size) + grown[place + 4 :]
    cut = grown.index(b"mdat") + 4
    path.write_bytes(grown[:cut] + bytes(grown.index(b"moov") - 4 - cut) + grown[grown.index(b"moov") - 4 :])
    with pytest.raises(MediaError):
        load_video(path, isolate=False)
