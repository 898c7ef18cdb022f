"""A file is looked at once, and again whenever it is another."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vlm_selfalign.core.media import Media
from vlm_selfalign.data import files
from vlm_selfalign.data.cache import Cache
from vlm_selfalign.data.files import Kind, media_inside, media_of, media_of_each
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import image_media
from vlm_selfalign.media.isolation import Limits

from .made import clip, encoded, photo

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were really looked at."""
    seen: list[str] = []
    look = files._checked

    def counting(path: str, kind: Kind) -> Media:
        seen.append(path)
        return look(path, kind)

    monkeypatch.setattr(files, "_checked", counting)
    monkeypatch.setattr(files, "SETTLED", 0)
    return seen


def test_a_file_is_looked_at_once(tmp_path: Path, looked: list[str]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(1)))
    for _ in range(2):
        with Cache(tmp_path / "cache") as cache:
            assert media_of(str(path), "image", cache) == image_media(str(path))
    assert looked == [str(path)]
    os.rename(path, tmp_path / "b.png")
    os.chmod(tmp_path / "b.png", 0o600)  # a change of rights moves the time of change, too: looked at again, to be safe
    with Cache(tmp_path / "cache") as cache:
        assert media_of(str(tmp_path / "b.png"), "image", cache).uri.endswith("b.png")
    assert len(looked) == 2


def test_a_file_with_other_content_is_another(tmp_path: Path, looked: list[str]) -> None:
    """Even where its size is the same and its time was put back."""
    path = tmp_path / "a.bmp"
    with Cache(tmp_path / "cache") as cache:
        path.write_bytes(encoded(photo(1), "BMP"))
        before, stamp = media_of(str(path), "image", cache), path.stat()
        time.sleep(0.02)
        path.write_bytes(encoded(photo(2), "BMP"))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert path.stat().st_size == stamp.st_size and path.stat().st_mtime_ns == stamp.st_mtime_ns
        after = media_of(str(path), "image", cache)
    assert before.content_hash != after.content_hash and len(looked) == 2


def test_a_file_that_just_changed_is_not_remembered(tmp_path: Path, looked: list[str], monkeypatch) -> None:
    monkeypatch.setattr(files, "SETTLED", 2_000_000_000)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(1)))
    with Cache(tmp_path / "cache") as cache:
        media_of(str(path), "image", cache)
        media_of(str(path), "image", cache)
    assert len(looked) == 2


def test_refusals_are_not_remembered(tmp_path: Path, looked: list[str]) -> None:
    path = tmp_path / "a.png"
    path.write_text("words")
    with Cache(tmp_path / "cache") as cache:
        for _ in range(2):
            with pytest.raises(MediaError, match="not a picture but text"):
                media_of(str(path), "image", cache)
        with pytest.raises(MediaError, match="no such file"):
            media_of(str(tmp_path / "nothing.png"), "image", cache)
        with pytest.raises(MediaError, match="a folder"):
            media_of(str(tmp_path), "image", cache)


def test_a_picture_is_no_clip_though_known(tmp_path: Path, looked: list[str]) -> None:
    path = str(clip(tmp_path / "a.mp4"))
    with Cache(tmp_path / "cache") as cache:
        assert media_of(path, "video", cache) == media_of(path, "video", cache)
        assert len(looked) == 1
        with pytest.raises(MediaError, match="not a picture but MP4"):
            media_of(path, "image", cache)


def test_files_inside_others(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4")
    with Cache(None) as cache:
        outside = media_of(str(path), "video", cache)
    inside = media_inside(path.read_bytes(), "parquet:t#0/video", "video")
    assert inside == outside.model_copy(update={"uri": "parquet:t#0/video"})
    with pytest.raises(MediaError, match="parquet:t#1/video: not a clip but text"):
        media_inside(b"words", "parquet:t#1/video", "video")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Pictures that can be remembered, a damaged one, and one that is not what it is called."""
    folder = tmp_path_factory.mktemp("old")
    for number in range(18):
        (folder / f"{number:02}.png").write_bytes(encoded(photo(number)))
    (folder / "18.png").write_bytes(encoded(photo(18))[:40])
    (folder / "19.png").write_bytes(encoded(photo(19), "JPEG"))
    time.sleep(files.SETTLED / 1e9 + 0.1)
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def many(old: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same, enough for several processes."""
    monkeypatch.setattr(files, "MANY", 10)
    monkeypatch.setattr(files, "CHUNK", 4)
    return old


def said(paths: list[str], cache: Cache) -> list[Media | str]:
    """What each file is, or why it cannot be used."""
    found = media_of_each(paths, {".png": "image"}, cache)
    return [one.reason if isinstance(one, MediaError) else one for one in found]


@pytest.mark.parametrize("seconds", [60.0, 0.0], ids=["in time", "given up"])
def test_several_processes_find_what_one_finds(
    many: list[str], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    alone = [*map(image_media, many[:18]), *said(many[18:], Cache(None))]
    monkeypatch.setattr(files, "PATIENCE", Limits(seconds=seconds))
    assert said(many, Cache(None)) == alone
    assert [isinstance(one, Media) for one in alone] == [True] * 18 + [False, True]


def test_here_only_what_is_not_fine_is_looked_at(many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    look = files._checked
    monkeypatch.setattr(files, "_checked", lambda path, kind: seen.append(path) or look(path, kind))
    with Cache(None) as cache:
        said(many, cache)
    assert seen == [many[18]]


def test_who_wants_few_does_not_wait_for_all(many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with Cache(None) as cache:
        assert next(media_of_each(many, {".png": "image"}, cache)) == image_media(many[0])
        assert 4 <= len(cache.fresh) <= 12
