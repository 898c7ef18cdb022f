"""Only known decoders run, a PNG's check sums are read, and what is no picture is named."""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import image_media, load_image

from .drawn import BLUE, GREEN, RED, WHITE, YELLOW, corners, near, quadrants, refusal


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"just words\n", "not a picture but text"),
        (b"<!DOCTYPE html><html>", "not a picture but HTML"),
        (os.urandom(4096), "not a picture"),
        (b"\0\0\0\x18ftypmp42" + bytes(99), "not a picture but MP4 or MOV video"),
        (b"\0\0\0\x18ftypavif" + bytes(99), "a broken header"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "a broken header"),
        (b"\xff\x0a" + bytes(99), "JPEG XL is not read: convert it to PNG or JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is not read: convert it to PNG or JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript is not read: convert it to PNG or JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL is not read: convert it to PNG or JPEG"),
        (b"<?xml version='1.0'?><!-- a --><svg/>", "SVG is not read: convert it to PNG or JPEG"),
        (b"8BPS\0\1" + bytes(99), "PSD is not read: convert it to PNG or JPEG"),
        (b"SIMPLE  =                    T", "FITS is not read: convert it to PNG or JPEG"),
        (b"\xc5\xd0\xd3\xc6" + bytes(99), "PostScript is not read: convert it to PNG or JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a picture but Git LFS pointer"),
        (b"%PDF-1.7\n", "PDF is not read: convert it to PNG or JPEG"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert refusal(tmp_path / "a.jpg").reason == reason


def test_ghostscript_is_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "gs"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("a.eps", "a.jpg"):
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
        refusal(tmp_path / name)
    assert not (tmp_path / "started").exists()


def test_plain_text_pictures_load_but_not_long_ones(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_text("P3 2 1 255\n255 0 0 0 255 0\n")
    assert load_image(tmp_path / "a.ppm").getpixel((1, 0)) == GREEN
    with open(tmp_path / "b.ppm", "wb") as file:
        file.write(b"P3 8000 8000 255\n" + b"1 " * 2_100_000)
    assert refusal(tmp_path / "b.ppm").reason == "too long for a picture written as text"


def heic(picture: Image.Image, **settings: object) -> bytes:
    library = pytest.importorskip("pillow_heif", reason="the extra 'heic' is not installed")
    library.register_heif_opener()
    buffer = io.BytesIO()
    picture.save(buffer, "HEIF", **settings)
    return buffer.getvalue()


def test_heic_loads_with_its_extra(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic(quadrants(), quality=95))
    assert near(corners(load_image(tmp_path / "a.heic")), [RED, GREEN, BLUE, YELLOW], 30)
    assert load_image(image_media(str(tmp_path / "a.heic"))).size == (64, 32)
    clear = quadrants().convert("RGBA")
    clear.putalpha(0)
    (tmp_path / "b.jpg").write_bytes(heic(clear, quality=-1))
    assert load_image(tmp_path / "b.jpg").getpixel((3, 3)) == WHITE
    assert refusal(tmp_path / "a.heic", max_pixels=2047).reason == "too many pixels"


def test_heic_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.heic").write_bytes(heic(quadrants((32, 64)).transpose(Image.Transpose.ROTATE_90), exif=exif))
    library = pytest.importorskip("pillow_heif")
    meant = library.open_heif(tmp_path / "a.heic").to_pillow()  # turned by the box that HEIC has for it, if any
    assert load_image(tmp_path / "a.heic").size == meant.size
    assert near(corners(load_image(tmp_path / "a.heic")), corners(meant.convert("RGB")), 30)


def test_damaged_heic_is_refused(tmp_path: Path) -> None:
    whole = heic(quadrants(), quality=95)
    for length in (30, len(whole) // 2, len(whole) - 20):
        (tmp_path / "a.heic").write_bytes(whole[:length])
        refusal(tmp_path / "a.heic")


def test_heic_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    assert "pip install 'vlm-selfalign[heic]'" in refusal(tmp_path / "a.jpg").reason


def test_cut_pictures_that_pass_because_of_others_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quadrants().save(tmp_path / "a.jpg")
    with warnings.catch_warnings(action="error"):
        load_image(tmp_path / "a.jpg")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.warns(UserWarning, match="LOAD_TRUNCATED_IMAGES"):
        load_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", ["psd", "eps", "pdf", "fits", "ico", "dds", "xbm", "spider", "sgi", "pcx", "im"])
def test_no_other_decoder_of_pillow_runs(tmp_path: Path, ending: str) -> None:
    """ICO, DDS, SGI, PCX, XBM, ...: Pillow has some forty decoders, and every one is a place to attack."""
    try:
        quadrants().convert("1" if ending == "xbm" else "RGB").save(tmp_path / f"a.{ending}")
    except (ValueError, KeyError):  # this one Pillow only reads
        (tmp_path / f"a.{ending}").write_bytes(b"8BPS" if ending == "psd" else b"SIMPLE  =")
    with pytest.raises(MediaError) as caught:
        load_image(tmp_path / f"a.{ending}")
    assert caught.value.stage == "header"
