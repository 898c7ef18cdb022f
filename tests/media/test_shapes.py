"""Whatever a folder holds, each entry loads or is refused with its reason, and none keeps another from loading."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import image_media, load_image

pytestmark = [pytest.mark.timeout(20), pytest.mark.skipif(os.name == "nt", reason="POSIX names and file kinds")]

NAMES = [
    b"caf\xe9.png",  # Latin-1, not UTF-8
    b"\xff\xfe.png",
    b"two\nlines.png",
    b"tab\t and \x1b[31m.png",
    b"-i x.png",
    b"--help",
    b"%03d.png",
    b"concat:a|b.png",
    b"world:7.png",
    b"file:x.png",
    b"C:\\x.png",
    b" .png ",
    b"~",
    b"$HOME.png",
    b"*.png",
    "é\u0301🐈 'quoted\".png".encode(),
    b"x" * 250 + b".png",
]


def put(path: str | bytes | Path, colour: str = "red") -> None:
    with open(path, "wb") as file:
        Image.new("RGB", (3, 2), colour).save(file, "PNG")


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_a_file_system_holds_is_a_name(tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(name)
    assert load_image(name).size == (3, 2)
    assert load_image(Path(os.fsdecode(name))).size == (3, 2)
    media = image_media(os.fsdecode(name))
    again = type(media).model_validate_json(media.model_dump_json())  # records on disk are UTF-8
    assert load_image(again).size == (3, 2)
    assert load_image(image_media(os.path.join(str(tmp_path), os.fsdecode(name)))).size == (3, 2)


def test_a_folder_may_have_such_a_name_too(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9\n"
    os.mkdir(folder)
    put(folder + b"/a.png")
    assert load_image(folder + b"/a.png").size == (3, 2)
    assert load_image(image_media(os.fsdecode(folder + b"/a.png"))).size == (3, 2)


@pytest.mark.parametrize(
    "pair",
    [("A.png", "a.png"), tuple(unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))],
    ids=["case", "NFC and NFD"],
)
def test_names_that_look_alike_are_two_files(tmp_path: Path, pair: tuple[str, str]) -> None:
    for name, colour in zip(pair, ("red", "blue"), strict=True):
        put(tmp_path / name, colour)
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this file system takes them for one")
    shown = [load_image(image_media(str(tmp_path / name))).getpixel((0, 0)) for name in pair]
    assert shown == [(255, 0, 0), (0, 0, 255)]


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Path]:
    """A folder with one of each kind of entry."""
    put(tmp_path / "good.png")
    (tmp_path / "link.png").symlink_to("good.png")
    (tmp_path / "chain.png").symlink_to(tmp_path / "link.png")
    os.link(tmp_path / "good.png", tmp_path / "hard.png")
    (tmp_path / "broken.png").symlink_to("nothing.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "ping.png").symlink_to("pong.png")
    (tmp_path / "pong.png").symlink_to("ping.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "null.png").symlink_to("/dev/null")
    (tmp_path / "terminal.png").symlink_to("/dev/tty")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "to_folder.png").symlink_to("folder.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(8 << 30)
    place = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # names of sockets are short
        server.bind("socket.png")
        os.chdir(place)
        yield tmp_path


def test_every_entry_loads_or_says_why(odd: Path) -> None:
    found = {}
    for path in sorted(odd.iterdir()):
        try:
            found[path.stem] = str(load_image(path).size)
        except MediaError as error:
            assert error.stage == "open" and str(error).startswith(str(path))
            found[path.stem] = error.reason
    loops = "too many levels of symbolic links"
    assert found.pop("terminal") in ("no such device or address", "not a regular file")
    assert found == {
        **dict.fromkeys(("good", "link", "chain", "hard"), "(3, 2)"),
        **dict.fromkeys(("loop", "ping", "pong"), loops),
        **dict.fromkeys(("zero", "null", "pipe"), "not a regular file"),
        **dict.fromkeys(("folder", "to_folder"), "a folder, not a file"),
        "broken": "no such file",
        "empty": "an empty file",
        "sparse": "too many bytes",
        "socket": "no such device or address",
    }


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/kcore", "/proc/self/mem", "/proc/kmsg"])
def test_what_the_kernel_shows_as_files_is_no_picture(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip("not here")
    with pytest.raises(MediaError):
        load_image(path)


def as_a_stranger(path: str) -> str:
    """What loading gives a process without rights, which root cannot be."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            said = str(load_image(path).size)
        except BaseException as error:
            said = getattr(error, "reason", repr(error))
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as file:
        return file.read().decode()


def test_an_unreadable_file_is_refused_and_its_neighbour_loads() -> None:
    folder = tempfile.mkdtemp()
    try:
        os.chmod(folder, 0o755)
        for name, mode in (("a.png", 0), ("b.png", 0o644)):
            put(f"{folder}/{name}")
            os.chmod(f"{folder}/{name}", mode)
        assert as_a_stranger(f"{folder}/a.png") == "permission denied"
        assert as_a_stranger(f"{folder}/b.png") == "(3, 2)"
    finally:
        shutil.rmtree(folder)
