"""Only regular files of a sane size are opened, whatever their names, and nothing ever waits."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import socket
from pathlib import Path

import pytest
from PIL import Image

from vlm_selfalign.media import files
from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.files import HEADER_BYTES, HEADER_READS, HeaderReader, kind_of, open_regular
from vlm_selfalign.media.image import load_image

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


def test_printable_paths_fit_on_one_line_and_into_utf8() -> None:
    assert printable(b"a\xffb\nc") == "a\\xffb\\nc"
    assert printable("caf\u00e9 \U0001f408") == "caf\u00e9 \U0001f408"
    assert printable(os.fsdecode(b"\xe9\x1b[31m")) == "\\xe9\\x1b[31m"


def test_an_error_survives_a_process_boundary() -> None:
    error = MediaError("a.jpg", "a cut file", "decode", "OSError: 3 bytes")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.jpg: a cut file (OSError: 3 bytes)"
    assert (again.reason, again.stage) == ("a cut file", "decode")


def test_a_header_has_an_end() -> None:
    reader = HeaderReader(io.BytesIO(bytes(HEADER_BYTES + 10)), "a")
    assert len(reader.read(HEADER_BYTES)) == HEADER_BYTES
    with pytest.raises(MediaError, match="a header without end"):
        reader.read(1)
    reader.lift()
    assert len(reader.read(5)) == 5 and len(reader.read()) == 5
    assert reader.seek(0) == 0 and reader.tell() == 0  # all else is the file's


def test_a_header_is_not_searched_byte_by_byte_for_ever() -> None:
    reader = HeaderReader(io.BytesIO(bytes(HEADER_READS + 10)), "a")
    for _ in range(HEADER_READS):
        reader.read(1)
    with pytest.raises(MediaError, match="a header without end"):
        reader.read(1)


def test_what_is_read_as_a_whole_may_not_be_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WHOLE_BYTES", 100)
    assert len(HeaderReader(io.BytesIO(bytes(100)), "a").read()) == 100
    with pytest.raises(MediaError, match="101, at most 100 as one piece"):
        HeaderReader(io.BytesIO(bytes(101)), "a").read()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\xef\xbb\xbf <!doctype HTML>", "HTML"),
        ("caf\u00e9".encode()[:-1], "text"),  # cut in the middle of a character
        (b"caf\xe9 au lait and more", "unknown"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI video"),
        (b"", "text"),
    ],
)
def test_what_a_file_seems_to_be(head: bytes, kind: str) -> None:
    assert kind_of(head) == kind
