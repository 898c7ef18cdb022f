"""Only regular files of a sane size are opened, whatever their names, and nothing ever waits."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from pathlib import Path

import pytest
from PIL import Image

from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.files import open_regular
from vlm_selfalign.media.image import image_media, load_image

pytestmark = [pytest.mark.timeout(20), pytest.mark.skipif(os.name == "nt", reason="POSIX file kinds")]


def reason(path: object, **limits: int) -> str:
    with pytest.raises(MediaError) as caught:
        open_regular(path, **limits)  # type: ignore[arg-type]
    assert caught.value.stage == "open"
    return caught.value.reason


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") == "not a regular file"
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    assert reason(tmp_path / "zero.jpg") == "not a regular file"
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path / "folder.jpg") == "a folder, not a file"
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "symbolic links" in reason(tmp_path / "loop.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nothing")
    assert reason(tmp_path / "broken.jpg") == "no such file"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert reason(tmp_path / "s") == "no such device or address"


def test_names_no_file_can_have() -> None:
    assert reason("a\0b") == "a name with a NUL byte"
    assert reason("x" * 5000) == "file name too long"
    assert reason("") == "no such file"


def test_a_sparse_monster_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(8 << 30)
    assert reason(tmp_path / "a.jpg") == "too many bytes"
    assert reason(tmp_path / "a.jpg", max_bytes=100) == "too many bytes"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.jpg").chmod(0)
    assert reason(tmp_path / "a.jpg") == "permission denied"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"words")
    (tmp_path / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for name in ("good", "bad", "empty", "pipe") * 20:
        with contextlib.suppress(MediaError):
            load_image(tmp_path / f"{name}.png")
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


NAMES = [
    b"caf\xe9.png",  # Latin-1, not UTF-8
    b"\xff\xfe.png",
    b"two\nlines.png",
    b"-i x.png",
    b"%03d.png",
    b"world:7.png",
    b"file:x.png",
    b"C:\\x.png",
    b" .png ",
    "é\u0301🐈 'quoted\".png".encode(),
    b"x" * 250 + b".png",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_a_file_system_holds_is_a_name(tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open(name, "wb") as file:
        Image.new("RGB", (3, 2), "red").save(file, "PNG")
    assert load_image(name).size == (3, 2)
    assert load_image(Path(os.fsdecode(name))).size == (3, 2)
    media = image_media(os.fsdecode(name))
    again = type(media).model_validate_json(media.model_dump_json())  # records on disk are UTF-8
    assert load_image(again).size == (3, 2)
    assert load_image(image_media(os.path.join(str(tmp_path), os.fsdecode(name)))).size == (3, 2)


def test_printable_paths_fit_on_one_line_and_into_utf8() -> None:
    assert printable(b"a\xffb\nc") == "a\\xffb\\nc"
    assert printable("caf\u00e9 \U0001f408") == "caf\u00e9 \U0001f408"
    assert printable(os.fsdecode(b"\xe9\x1b[31m")) == "\\xe9\\x1b[31m"


def test_an_error_survives_a_process_boundary() -> None:
    error = MediaError("a.jpg", "a cut file", "decode", "OSError: 3 bytes")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.jpg: a cut file (OSError: 3 bytes)"
    assert (again.reason, again.stage) == ("a cut file", "decode")
