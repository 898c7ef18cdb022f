"""A folder gives each picture and clip once, in order, and an account of everything else."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.ledger import MARKER
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.data import files
from vlm_selfalign.data.cache import VARIABLE
from vlm_selfalign.data.folder import folder
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image
from vlm_selfalign.media.video import load_video

from .made import clip, numbers

pytestmark = pytest.mark.timeout(60)


def paint(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path, "PNG")
    return path


def names(listing: object) -> list[str]:
    return [os.path.basename(sample.prompt.media[0].uri) for sample in listing]  # type: ignore[attr-defined]


def test_samples_ask_the_question_about_each_picture(tmp_path: Path) -> None:
    paint(tmp_path / "b" / "2.png", 2)
    paint(tmp_path / "a" / "1.png", 1)
    listing = resolve("source", "folder").build({"path": str(tmp_path), "prompt": "What is it?"})
    samples = list(listing)
    assert len(listing) == len(samples) == 2
    assert names(listing) == ["1.png", "2.png"]
    assert all(s.prompt.question == "What is it?" and s.truth is None and s.id == s.prompt.digest for s in samples)
    assert listing[1] == samples[1]
    assert load_image(samples[0].prompt.media[0]).getpixel((0, 0)) == (1, 1, 1)


def test_ids_are_content_not_place(tmp_path: Path) -> None:
    paint(tmp_path / "here" / "a.png", 7)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert [s.id for s in folder(str(tmp_path / "here"))] == [s.id for s in folder(str(tmp_path / "there"))]


def test_the_same_content_is_listed_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        paint(tmp_path / name, 5)
    paint(tmp_path / "d.png", 6)
    listing = folder(str(tmp_path))
    assert names(listing) == ["a.png", "d.png"]
    assert listing.repeats == {"the same content as an earlier one": 2}


def test_bad_files_are_refused_with_a_reason_and_the_good_kept(tmp_path: Path) -> None:
    paint(tmp_path / "good.png", 1)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "words.jpg").write_text("words")
    (tmp_path / "apple.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
    listing = folder(str(tmp_path))
    assert names(listing) == ["good.png"]
    refused = {os.path.basename(one.where): one.reason for one in listing.refused}
    assert refused.pop("pipe.jpg", "not a regular file") == "not a regular file"
    apple = refused.pop("apple.heic")
    assert apple.startswith("HEIC needs an extra") or apple == "a broken header"
    assert refused == {"empty.jpg": "an empty file", "words.jpg": "not a picture but text"}


def test_what_is_nobodys_picture_is_passed_over_quietly(tmp_path: Path) -> None:
    for name in ("good.png", "no_extension", "UPPER.PNG", ".hidden.png", "._x.png", ".git/inside.png"):
        paint(tmp_path / name, len(name))
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "README", "sound.mp3"):
        (tmp_path / name).write_bytes(b"not a picture")
    listing = folder(str(tmp_path))
    assert names(listing) == ["UPPER.PNG", "good.png", "no_extension"]
    assert listing.refused == []


def test_a_run_inside_the_folder_is_never_listed(tmp_path: Path) -> None:
    paint(tmp_path / "good.png", 1)
    paint(tmp_path / "out" / "rounds" / "0" / "made.png", 2)
    (tmp_path / "out" / MARKER).write_text("")
    assert names(folder(str(tmp_path))) == ["good.png"]
    with pytest.raises(UserError, match="output of a run"):
        folder(str(tmp_path / "out"))


def test_limit_takes_the_first_good_ones(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"bad")
    for number in range(1, 9):
        paint(tmp_path / f"{number}.png", number)
    assert names(folder(str(tmp_path), limit=3)) == ["1.png", "2.png", "3.png"]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    paint(root / "sub" / "a.png", 1)
    outer = paint(tmp_path / "outer" / "b.png", 2)
    (root / "inside.png").symlink_to(root / "sub" / "a.png")
    (root / "leaves.png").symlink_to(outer)
    (root / "around").symlink_to(root)
    (root / "elsewhere").symlink_to(outer.parent)
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "broken.png").symlink_to(root / "nothing.png")
    listing = folder(str(root))
    assert names(listing) == ["inside.png"] and listing.repeats.total() == 1
    refused = {os.path.basename(one.where): one.reason for one in listing.refused}
    assert refused["leaves.png"].startswith("a link out of the folder")
    assert refused["broken.png"] == "no such file" and "symbolic links" in refused["loop.png"]
    assert names(folder(str(root), outside=True)) == ["b.png", "inside.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_one_odd_name_stops_nothing(tmp_path: Path) -> None:
    for level, name in enumerate([b"caf\xe9.png", b"two\nlines.png", "é.png".encode(), b"-x.png", b"a.png"]):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            Image.new("L", (4, 4), level).save(file, "PNG")
    os.rename(clip(tmp_path / "c.mp4"), os.path.join(os.fsencode(tmp_path), b"clip \xe9.mp4"))
    assert numbers(load_video(folder(str(tmp_path), kind="video")[0].prompt.media[0], frames=2)) == [5, 15]
    listing = folder(str(tmp_path), kind="image")
    assert len(listing) == 5 and not listing.refused
    for sample in listing:
        again = type(sample).model_validate_json(sample.model_dump_json())
        assert load_image(again.prompt.media[0]).size == (4, 4)


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder; give data\.path="):
        folder(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no picture or clip in it; give a folder"):
        folder(str(tmp_path))
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.jpg").write_text("words")
    with pytest.raises(UserError, match=r"b.jpg: not a picture but text; 1 .txt"):
        folder(str(tmp_path))
    (tmp_path / "m.jsonl").write_text("{}")
    with pytest.raises(UserError, match="a file, not a folder; use source=jsonl"):
        folder(str(tmp_path / "m.jsonl"))
    with pytest.raises(UserError, match="limit"):
        folder(str(tmp_path), limit=0)
    with pytest.raises(UserError, match=r"data\.settings\.promt: unknown key; did you mean 'prompt'"):
        resolve("source", "folder").build({"path": str(tmp_path), "promt": "x"}, "data.settings")


def test_a_hundred_thousand_files_would_take_some_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed, hashed and checked; here 2,000 of them, with room for a busy machine. Again, it costs a fraction."""
    monkeypatch.setattr(files, "SETTLED", 0)
    first = paint(tmp_path / "0.png", 0).read_bytes()
    for number in range(1, 2000):
        (tmp_path / f"{number}.png").write_bytes(first + number.to_bytes(4, "big"))
    taken = []
    for _ in range(2):
        begin = time.process_time()
        assert len(folder(str(tmp_path), near_duplicates="off")) == 2000
        taken.append(time.process_time() - begin)
    assert taken[0] < 1.0 and taken[1] < taken[0] / 2


def test_clips_beside_pictures(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 1)
    clip(tmp_path / "sub" / "b.MP4")
    clip(tmp_path / "c.mkv", first=3)
    clip(tmp_path / "d.avi")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "sub" / "b.MP4").read_bytes()[:200])
    (tmp_path / "words.webm").write_text("words")
    samples = list(listing := folder(str(tmp_path)))
    assert names(listing) == ["a.png", "c.mkv", "d.avi", "b.MP4"]
    assert [s.prompt.question for s in samples] == ["Describe the image.", *["Describe the video."] * 3]
    assert numbers(load_video(samples[1].prompt.media[0], frames=2)) == [8, 18]
    refused = {os.path.basename(one.where): one.reason for one in listing.refused}
    assert refused == {"cut.mp4": "a broken header", "words.webm": "not a clip but text"}
    assert [s.prompt.question for s in folder(str(tmp_path), prompt="What?")] == ["What?"] * 4


def test_one_kind_alone(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 1)
    clip(tmp_path / "b.mp4")
    frames = [Image.new("L", (16, 16), level) for level in (0, 120, 240)]
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:], duration=100)
    assert names(folder(str(tmp_path), kind="image")) == ["a.png", "c.gif"]
    clips = folder(str(tmp_path), kind="video")
    assert names(clips) == ["b.mp4", "c.gif"] and {s.prompt.media[0].kind for s in clips} == {"video"}
    assert len(load_video(clips[1].prompt.media[0], frames=3)) == 3
    assert [s.prompt.media[0].kind for s in folder(str(tmp_path))] == ["image", "video", "image"]
    (tmp_path / "b.mp4").unlink()
    (tmp_path / "c.gif").unlink()
    with pytest.raises(UserError, match=r"no clip in it \(1 .png\)"):
        folder(str(tmp_path), kind="video")


def test_content_counts_where_a_name_is_wrong(tmp_path: Path) -> None:
    clip(tmp_path / "clip.mp4").rename(tmp_path / "clip.jpg")
    clip(tmp_path / "second.mp4", first=2).rename(tmp_path / "second")
    paint(tmp_path / "picture.png", 1).rename(tmp_path / "picture.mp4")
    listing = folder(str(tmp_path))
    assert [s.prompt.media[0].kind for s in listing] == ["video", "image", "video"] and not listing.refused
    with pytest.raises(UserError, match=r"no picture in it \(clip.jpg: not a picture but MP4 or MOV video; 1 .mp4"):
        folder(str(tmp_path), kind="image")


def test_what_changes_in_mid_run_is_told(tmp_path: Path) -> None:
    for number, name in enumerate(("changed", "deleted")):
        paint(tmp_path / f"{name}.png", number)
        clip(tmp_path / f"{name}.mp4", first=number)
    samples = {os.path.basename(s.prompt.media[0].uri): s.prompt.media[0] for s in folder(str(tmp_path))}
    paint(tmp_path / "changed.png", 99)
    clip(tmp_path / "changed.mp4", first=5)
    (tmp_path / "deleted.png").unlink()
    (tmp_path / "deleted.mp4").unlink()
    for name, reason in (("changed", "changed since it was listed"), ("deleted", "no such file")):
        with pytest.raises(MediaError, match=reason):
            load_image(samples[f"{name}.png"])
        with pytest.raises(MediaError, match=reason):
            load_video(samples[f"{name}.mp4"], frames=2)


def test_the_cache_inside_the_folder_is_never_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    paint(tmp_path / "a.png", 1)
    folder(str(tmp_path))
    paint(tmp_path / "cache" / "fetched" / "00", 2)
    assert names(folder(str(tmp_path))) == ["a.png"]


def test_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    paint(tmp_path / "a.png", 1)
    assert names(folder(str(tmp_path))) == ["a.png"] and not (tmp_path / "elsewhere").exists()
