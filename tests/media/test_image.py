"""Every picture comes out as a person sees it, or is refused with one reason before it costs anything."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from vlm_selfalign.core.media import Media
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import MAX_PIXELS, image_media, load_image

RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)


def quadrants(size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Red, green / blue, yellow."""
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for number, colour in enumerate((RED, GREEN, BLUE, YELLOW)):
        left, top = (number % 2) * width, (number // 2) * height
        image.paste(colour, (left, top, left + width, top + height))
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    width, height = image.size
    points = [(width // 4, height // 4), (3 * width // 4, height // 4)]
    points += [(width // 4, 3 * height // 4), (3 * width // 4, 3 * height // 4)]
    return [image.getpixel(point) for point in points]  # type: ignore[misc]


def near(found: object, wanted: object, tolerance: int = 12) -> bool:
    return bool(np.abs(np.asarray(found, int) - np.asarray(wanted, int)).max() <= tolerance)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colour: int, data: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refusal(path: object, **limits: int) -> MediaError:
    begin = time.perf_counter()
    with pytest.raises(MediaError) as caught:
        load_image(path, **limits)  # type: ignore[arg-type]
    assert time.perf_counter() - begin < 0.5
    return caught.value


# ------------------------------------------------------------------------------------------------ the right way up

UPRIGHT_TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once_and_dropped(tmp_path: Path, ending: str, orientation: int) -> None:
    turn = UPRIGHT_TO_STORED[orientation]
    stored = quadrants() if turn is None else quadrants().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{ending}", exif=exif, quality=95)
    shown = load_image(tmp_path / f"a.{ending}")
    assert shown.size == (64, 32)
    assert near(corners(shown), [RED, GREEN, BLUE, YELLOW])
    assert not shown.getexif() and not shown.info


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    quadrants().save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert near(corners(load_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, YELLOW])


def test_a_malformed_exif_block_is_ignored(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert near(corners(load_image(tmp_path / "a.png")), [RED, GREEN, BLUE, YELLOW])


# ------------------------------------------------------------------------------------------------ the right colours


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_colours_hidden_under_alpha_stay_hidden(tmp_path: Path, ending: str) -> None:
    image = quadrants().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.save(tmp_path / f"a.{ending}", lossless=True, exact=True)
    assert np.all(np.asarray(load_image(tmp_path / f"a.{ending}")) == 255)


def test_half_transparent_red_is_pink(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert near(load_image(tmp_path / "a.png").getpixel((1, 1)), (255, 127, 127), 1)


def test_grey_with_alpha(tmp_path: Path) -> None:
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").getpixel((1, 1)) == WHITE


@pytest.mark.parametrize("transparency", [0, b"\x00\xff\xff\xff"])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    image = quadrants().quantize(4)
    hidden = image.getpixel((2, 2))  # red's index
    if isinstance(transparency, int):
        transparency = int(hidden)  # type: ignore[arg-type]
    else:
        transparency = bytes(0 if i == hidden else 255 for i in range(4))
    image.save(tmp_path / "a.png", transparency=transparency)
    assert near(corners(load_image(tmp_path / "a.png")), [WHITE, GREEN, BLUE, YELLOW])


def test_rgb_with_a_transparent_colour(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png", transparency=RED)
    assert corners(load_image(tmp_path / "a.png")) == [WHITE, GREEN, BLUE, YELLOW]


def test_transparent_gif_keeps_its_palette_and_shows_white(tmp_path: Path) -> None:
    image = quadrants().quantize(4)
    image.save(tmp_path / "a.gif", transparency=image.getpixel((2, 2)))
    assert near(corners(load_image(tmp_path / "a.gif")), [WHITE, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, ending: str) -> None:
    levels = np.tile(np.arange(0, 65536, 257, dtype=np.uint16), (8, 1))
    Image.fromarray(levels).save(tmp_path / f"a.{ending}")
    found = np.asarray(load_image(tmp_path / f"a.{ending}"))
    assert np.array_equal(found[0, :, 0], np.arange(256))
    assert np.array_equal(found[..., 0], found[..., 2])


def test_16_bit_grey_with_a_transparent_level(tmp_path: Path) -> None:
    levels = struct.pack(">BHHBHH", 0, 1000, 65535, 0, 30000, 1000)
    (tmp_path / "a.png").write_bytes(png(2, 2, 16, 0, levels, chunk(b"tRNS", struct.pack(">H", 1000))))
    found = np.asarray(load_image(tmp_path / "a.png"))[..., 0]
    assert found.tolist() == [[255, 255], [round(30000 / 257), 255]]


def test_48_bit_colour(tmp_path: Path) -> None:
    pixels = b"\0" + struct.pack(">6H", 65535, 0, 0, 0, 32896, 65535)
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 2, pixels))
    image = load_image(tmp_path / "a.png")
    assert image.getpixel((0, 0)) == RED
    assert near(image.getpixel((1, 0)), (0, 128, 255), 1)


@pytest.mark.parametrize("top", [1.0, 255.0, 4000.0])
def test_float_grey_fills_the_range(tmp_path: Path, top: float) -> None:
    levels = np.linspace(0, top, 256, dtype=np.float32)[None].repeat(4, 0)
    levels[3, 3] = np.nan
    Image.fromarray(levels).save(tmp_path / "a.tif")
    found = np.asarray(load_image(tmp_path / "a.tif"))[0, :, 0]
    assert near(found, np.arange(256), 1)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "P", "RGB"])
def test_modes_show_their_colours(tmp_path: Path, mode: str) -> None:
    image = quadrants()
    if mode == "LAB":
        image = ImageCms.profileToProfile(  # type: ignore[assignment]
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    image = image if mode == "LAB" else image.convert(mode)
    image.save(tmp_path / "a.tif")
    assert near(corners(load_image(tmp_path / "a.tif")), [RED, GREEN, BLUE, YELLOW], 25)


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    quadrants().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert near(corners(load_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, YELLOW], 20)


def test_one_bit(tmp_path: Path) -> None:
    image = Image.new("1", (8, 8), 1)
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png")
    assert found.getpixel((0, 0)) == (0, 0, 0) and found.getpixel((1, 1)) == WHITE


def test_a_colour_profile_is_applied_and_a_broken_one_ignored(tmp_path: Path) -> None:
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Exchange the red and green primaries under another name: the stored red is then meant as green.
    swapped = swapped.replace(b"rXYZ", b"tmpZ").replace(b"gXYZ", b"rXYZ").replace(b"tmpZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.png", icc_profile=bytes(swapped))
    assert near(load_image(tmp_path / "a.png").getpixel((1, 1)), GREEN)
    Image.new("RGB", (4, 4), RED).save(tmp_path / "b.png", icc_profile=b"no profile at all")
    assert load_image(tmp_path / "b.png").getpixel((1, 1)) == RED


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_animations_show_their_first_frame(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
    assert near(load_image(tmp_path / f"a.{ending}").getpixel((4, 4)), RED)


@pytest.mark.parametrize("ending", ["bmp", "ppm", "jp2", "avif", "tga", "jpg", "webp"])
def test_formats(tmp_path: Path, ending: str) -> None:
    quadrants().save(tmp_path / f"a.{ending}", quality=95)
    assert near(corners(load_image(tmp_path / f"a.{ending}")), [RED, GREEN, BLUE, YELLOW], 30)


@pytest.mark.parametrize("name", ["a.png", "a", "a.JPG", "a.txt"])
def test_the_content_decides_not_the_name(tmp_path: Path, name: str) -> None:
    quadrants().save(tmp_path / name, format="JPEG", quality=95)
    assert near(corners(load_image(tmp_path / name)), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_narrow_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").size == size


def test_a_draft_has_fewer_pixels_but_enough(tmp_path: Path) -> None:
    quadrants((1600, 800)).save(tmp_path / "a.jpg", quality=95)
    draft = load_image(tmp_path / "a.jpg", draft_pixels=400 * 200)
    assert draft.size == (400, 200)
    assert near(corners(draft), [RED, GREEN, BLUE, YELLOW])
    assert load_image(tmp_path / "a.jpg", draft_pixels=401 * 201).size == (800, 400)
    assert load_image(tmp_path / "a.jpg", draft_pixels=1 << 30).size == (1600, 800)
    assert load_image(tmp_path / "a.jpg", draft_pixels=1).size == (200, 100)


# ------------------------------------------------------------------------------------------------ refusals


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


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_half_a_file_is_refused(tmp_path: Path, ending: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / f"a.{ending}")
    whole = (tmp_path / f"a.{ending}").read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(whole[: len(whole) // 2])
    refusal(tmp_path / f"a.{ending}")


def test_a_jpeg_short_of_its_last_two_bytes_is_refused(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    error = refusal(tmp_path / "a.jpg")
    assert (error.reason, error.stage) == ("a cut file", "decode")


def test_a_png_with_a_wrong_check_sum_is_refused(tmp_path: Path) -> None:
    data = bytearray(png(16, 16, 8, 0, bytes(17 * 16)))
    data[data.index(b"IDAT") + 12] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    assert refusal(tmp_path / "a.png").stage == "decode"


def test_no_damage_escapes_as_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a"
    for ending in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"):
        buffer = io.BytesIO()
        quadrants().save(buffer, ending)
        for _ in range(25):
            data = bytearray(buffer.getvalue())
            for place in rng.integers(0, len(data), 8):
                data[place] = rng.integers(256)
            path.write_bytes(data[: rng.integers(1, len(data) + 1)])
            try:
                assert load_image(path).mode == "RGB"
            except MediaError as error:
                assert error.reason and str(error).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"just words\n", "not a picture but text"),
        (b"<!DOCTYPE html><html>", "not a picture but HTML"),
        (os.urandom(4096), "not a picture"),
        (b"\0\0\0\x18ftypmp42" + bytes(99), "not a picture but MP4 or MOV video"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC is not read: convert it to PNG or JPEG"),
        (b"\xff\x0a" + bytes(99), "JPEG XL is not read: convert it to PNG or JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is not read: convert it to PNG or JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript is not read: convert it to PNG or JPEG"),
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


def test_a_file_that_changed_since_it_was_listed_is_refused(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png")
    media = image_media(str(tmp_path / "a.png"))
    assert load_image(media).size == (64, 32)
    quadrants((32, 32)).save(tmp_path / "a.png")
    assert refusal(media).reason == "changed since it was listed"
    (tmp_path / "a.png").unlink()
    assert refusal(media).reason == "no such file"


def test_a_listed_file_is_remembered_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    first, second = (png(1, 1, 8, 0, bytes([0, level])) for level in (1, 2))
    assert len(first) == len(second)
    path.write_bytes(first)
    os.utime(path, ns=(0, 10**18))
    before = image_media(str(path))
    assert image_media(str(path)) == before
    path.write_bytes(second)
    assert image_media(str(path)).content_hash != before.content_hash
    os.utime(path, ns=(0, 10**18 + 1))
    assert image_media(str(path)).content_hash != before.content_hash


def test_multi_picture_jpegs_of_phones_load(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[quadrants()], quality=95)
    assert near(corners(load_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux")
def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(13_000, 13_000, 8, 6, b"\0" * 1000))
    with open(tmp_path / "b.jpg", "wb") as file:
        file.truncate(8 << 30)
    program = """
import resource, sys, warnings
from vlm_selfalign.media.image import MediaError, load_image
warnings.simplefilter("ignore")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_image(path)
    except MediaError as error:
        print(error.reason)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 30)
"""
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.jpg")]
    shown = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == ["too many pixels", "too many bytes", "True"]


def test_a_clip_is_not_a_picture() -> None:
    assert refusal(Media(kind="video", uri="a.mp4", content_hash="")).reason == "a clip, not a picture"
