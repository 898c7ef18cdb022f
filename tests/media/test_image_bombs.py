"""Bombs are refused before they cost half a second or any memory to speak of."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from vlm_selfalign.media.image import MAX_PIXELS, load_image

from .drawn import chunk, png, refusal


@pytest.mark.parametrize("side", [9_000, 13_000, 20_000, 50_000])
def test_pixel_bombs_are_refused_from_the_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png(side, side, 1, 0, b"\0" * 1000))
    error = refusal(tmp_path / "a.png")
    assert error.reason == "too many pixels" and error.stage == "header"


def test_the_pixel_limit_is_a_setting(tmp_path: Path) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    assert refusal(tmp_path / "a.png", max_pixels=9_999).detail == "100 x 100, at most 9,999"
    assert load_image(tmp_path / "a.png", max_pixels=10_000).size == (100, 100)
    assert MAX_PIXELS == 80_000_000


def test_a_text_bomb_is_refused(tmp_path: Path) -> None:
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    (tmp_path / "a.png").write_bytes(png(1, 1, 8, 0, b"\0\0", text))
    assert refusal(tmp_path / "a.png").stage == "header"


def encoded(format: str, picture: Image.Image | None = None, **settings: object) -> bytearray:
    buffer = io.BytesIO()
    (picture or Image.new("RGB", (64, 32), "red")).save(buffer, format, **settings)
    return bytearray(buffer.getvalue())


def claiming(format: str) -> bytes:
    """A small file whose header claims over 80 million pixels."""
    data = encoded(format, lossless=True) if format == "WEBP" else encoded(format)
    if format == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 65500, 65500)
    elif format == "GIF":
        struct.pack_into("<HH", data, 6, 65500, 65500)
    elif format == "BMP":
        struct.pack_into("<ii", data, 18, 50_000, 50_000)
    elif format == "WEBP":
        struct.pack_into("<I", data, 21, 16382 | 16382 << 14)
    elif format == "JPEG2000":
        struct.pack_into(">II", data, data.index(b"ihdr") + 4, 60_000, 60_000)
        struct.pack_into(">II", data, data.index(b"\xff\x51") + 6, 60_000, 60_000)
    elif format == "TIFF":
        for tag in (256, 257):
            struct.pack_into("<HII", data, _entry(data, tag) + 2, 4, 1, 50_000)
    return bytes(data)


def _entry(data: bytearray, tag: int) -> int:
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    places = [start + 2 + 12 * number for number in range(count)]
    return next(place for place in places if struct.unpack_from("<H", data, place) == (tag,))


@pytest.mark.parametrize("format", ["JPEG", "GIF", "BMP", "WEBP", "JPEG2000", "TIFF"])
def test_whatever_the_format(tmp_path: Path, format: str) -> None:
    (tmp_path / "a").write_bytes(claiming(format))
    error = refusal(tmp_path / "a")
    assert (error.reason, error.stage) == ("too many pixels", "header")


def test_a_gif_frame_larger_than_its_screen_is_counted(tmp_path: Path) -> None:
    data = encoded("GIF")
    struct.pack_into("<HH", data, data.index(b",") + 5, 65500, 65500)
    (tmp_path / "a").write_bytes(data)
    assert refusal(tmp_path / "a").reason == "too many pixels"


MEASURE = """
import os, sys, time, warnings
from vlm_selfalign.media.image import MediaError, load_image
warnings.simplefilter("ignore")
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    before, begin = peak(), time.process_time()
    try:
        reason = f"{load_image(path).size}"
    except MediaError as error:
        reason = error.reason
    print(os.path.basename(path), f"{time.process_time() - begin:.2f}", (peak() - before) // 1024, reason, sep="|")
"""


def measured(*paths: Path) -> list[tuple[str, float, int, str]]:
    """Name, seconds, MiB and reason (or size) of each, loaded one after the other in a process of their own."""
    command = [sys.executable, "-c", MEASURE, *map(str, paths)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    lines = [line.split("|") for line in shown.splitlines()]
    return [(name, float(seconds), int(mebibytes), reason) for name, seconds, mebibytes, reason in lines]


linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux")


def repeated(path: Path, start: bytes, part: bytes, count: int, end: bytes = b"") -> Path:
    with open(path, "wb") as file:
        file.write(start)
        for _ in range(count // 1000):
            file.write(part * 1000)
        file.write(end)
    return path


def sparse(path: Path, start: bytes, size: int) -> Path:
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def bombs(folder: Path) -> list[Path]:
    """Pixels, then headers without end: each takes Pillow alone seconds to minutes, or hundreds of megabytes."""
    jpeg, gif = bytes(encoded("JPEG")), bytes(encoded("GIF"))
    frame = gif.index(b",")
    exif = b"\xff\xe1" + struct.pack(">H", 65_002) + b"Exif\0\0" + bytes(64_994)
    note = png(16, 16, 8, 0, bytes(17 * 16))[:33]
    tags = [(256, 3, 1, 9), (257, 3, 1, 9), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 45_000_000, 200)]
    offsets = struct.pack("<2sHIH", b"II", 42, 8, 6) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    pixels = folder / "pixels.png"
    pixels.write_bytes(png(13_000, 13_000, 8, 6, bytes(1000)))
    return [
        pixels,
        sparse(folder / "sparse.jpg", b"", 8 << 30),
        sparse(folder / "text.png", note + struct.pack(">I4s", 190_000_000, b"tEXt") + b"a\0", 199_000_000),
        sparse(folder / "tags.tif", offsets, 199_000_000),
        sparse(folder / "zeros.jpg", jpeg[:200], 199_000_000),
        sparse(folder / "comment.pgm", b"P5\n#", 150_000_000),
        sparse(folder / "whole.webp", b"RIFF" + struct.pack("<I", 190_000_000) + b"WEBPVP8L", 190_000_000),
        repeated(folder / "exif.jpg", jpeg[:2], exif, 1000, jpeg[2:]),
        repeated(folder / "filling.jpg", b"\xff\xd8", b"\xff" * 10_000, 5000),
        repeated(folder / "comments.gif", gif[:frame], b"!\xfe\x01a\0", 3_000_000, gif[frame:]),
        repeated(folder / "boxes.jp2", bytes.fromhex("0000000c6a5020200d0a870a"), b"\0\0\0\x08free", 2_000_000),
        repeated(folder / "pieces.png", note, chunk(b"IDAT", b""), 500_000, chunk(b"IEND", b"")),
    ]


@linux
def test_bombs_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    for name, seconds, mebibytes, reason in measured(*bombs(tmp_path)):
        assert not reason.startswith("("), name
        assert seconds < 0.5, name
        assert mebibytes < 100, name


@linux
def test_many_texts_that_decompress_to_much_are_refused_or_forgotten(tmp_path: Path) -> None:
    one = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))
    (tmp_path / "before.png").write_bytes(png(16, 16, 8, 0, bytes(17 * 16), *[one] * 80))
    whole = png(16, 16, 8, 0, bytes(17 * 16))
    (tmp_path / "after.png").write_bytes(whole[:-12] + one * 80 + whole[-12:])
    for name, seconds, mebibytes, reason in measured(tmp_path / "before.png", tmp_path / "after.png"):
        assert reason in ("a broken header", "cannot be decoded"), name
        assert seconds < 0.5 and mebibytes < 100, name


def test_long_headers_of_real_pictures_are_no_bombs(tmp_path: Path) -> None:
    """A phone's panorama carries megabytes of notes, a printer's profile two."""
    note = b"\xff\xe1" + struct.pack(">H", 65_002) + b"http://ns.adobe.com/xmp/extension/\0"
    note += bytes(65_000 - len(note) + 4)
    jpeg = bytes(encoded("JPEG"))
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + note * 80 + jpeg[2:])
    assert load_image(tmp_path / "a.jpg").size == (64, 32)


@linux
def test_48_megapixels_load_whole_in_half_a_gigabyte_and_as_a_draft_in_little(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000), "red").save(tmp_path / "a.jpg")
    ((_, _, mebibytes, size),) = measured(tmp_path / "a.jpg")
    assert size == "(8000, 6000)" and mebibytes < 512
    assert load_image(tmp_path / "a.jpg", draft_pixels=500_000).size == (1000, 750)


@linux
@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_large_pictures_of_other_modes_take_few_bytes_a_pixel(tmp_path: Path, mode: str) -> None:
    """Twelve at most, so that the largest allowed stays under a gigabyte."""
    Image.new(mode, (8000, 3000)).save(tmp_path / "a.png", compress_level=1)
    ((_, _, mebibytes, size),) = measured(tmp_path / "a.png")
    assert size == "(8000, 3000)" and mebibytes < 12 * 24
