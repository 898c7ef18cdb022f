"""Every colour mode comes out as a person would see it on white paper."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from vlm_selfalign.media.colour import to_rgb
from vlm_selfalign.media.image import load_image

from .drawn import BLUE, GREEN, RED, WHITE, YELLOW, chunk, corners, near, png, quadrants


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


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_in_both_orders(tmp_path: Path, order: str) -> None:
    levels = np.tile(np.arange(0, 65536, 257, dtype=f"{order}u2"), (300, 1))  # more rows than are worked on at once
    tags = [(256, 3, 1, 256), (257, 3, 1, 300), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (278, 3, 1, 300), (279, 4, 1, levels.nbytes)]
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + levels.nbytes)
    shorts = [struct.pack(f"{order}HHI", *tag[:3]) for tag in tags]
    values = [struct.pack(f"{order}{'HH' if tag[1] == 3 else 'I'}", tag[3], *[0] * (tag[1] == 3)) for tag in tags]
    entries = b"".join(short + value for short, value in zip(shorts, values, strict=True))
    ending = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(start + levels.tobytes() + ending)
    found = np.asarray(load_image(tmp_path / "a.tif"))
    assert np.array_equal(found[0, :, 0], np.arange(256)) and np.array_equal(found[0], found[-1])


@pytest.mark.parametrize("low, high", [(0, 65535), (-1000, 1000), (0, 1_000_000)])
def test_32_bit_grey(low: int, high: int) -> None:
    levels = np.linspace(low, high, 256).astype(np.int32)[None].repeat(2, 0)
    assert near(np.asarray(to_rgb(Image.fromarray(levels)))[0, :, 0], np.arange(256), 1)


def test_float_grey_without_a_number_in_it_is_black() -> None:
    nothing = np.full((2, 2), np.nan, np.float32)
    nothing[0] = np.inf
    assert not np.asarray(to_rgb(Image.fromarray(nothing))).any()


@pytest.mark.parametrize("mode", ["PA", "LA", "La", "RGBA", "RGBa"])
def test_modes_with_alpha_show_paper(mode: str) -> None:
    image = Image.new("LA" if mode == "La" else "RGBA", (4, 4), (0, 255) if mode == "La" else (0, 0, 0, 255))
    image.paste((90, 0) if mode == "La" else (90, 90, 90, 0), (0, 0, 2, 4))
    image = image.convert(mode)
    assert image.mode == mode
    before = image.tobytes()
    shown = to_rgb(image)
    assert shown.getpixel((0, 0)) == WHITE and near(shown.getpixel((3, 3)), (0, 0, 0))
    assert image.tobytes() == before


def test_48_bit_colour_with_a_transparent_one(tmp_path: Path) -> None:
    pixels = b"\0" + struct.pack(">6H", 65535, 0, 0, 0, 0, 65535)
    hidden = chunk(b"tRNS", struct.pack(">3H", 65535, 0, 0))
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 2, pixels, hidden))
    shown = load_image(tmp_path / "a.png")
    assert (shown.getpixel((0, 0)), shown.getpixel((1, 0))) == (WHITE, BLUE)


def profile(*changes: tuple[bytes, bytes]) -> bytes:
    """The sRGB profile with some bytes replaced by others of the same length."""
    found = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in changes:
        assert old in found and len(old) == len(new)
        found = found.replace(old, new)
    return found


def test_profiles_of_another_mode_are_ignored(tmp_path: Path) -> None:
    other = profile(("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be")))
    Image.new("L", (4, 4), 128).save(tmp_path / "a.png", icc_profile=other)
    assert load_image(tmp_path / "a.png").getpixel((0, 0)) == (128, 128, 128)
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg", icc_profile=other, quality=95)
    assert near(load_image(tmp_path / "a.jpg").getpixel((0, 0)), RED)


def test_srgb_changes_nothing_whatever_the_mode(tmp_path: Path) -> None:
    for image in (quadrants(), quadrants().convert("RGBA"), quadrants().quantize(4)):
        image.save(tmp_path / "a.png", icc_profile=profile())
        assert corners(load_image(tmp_path / "a.png")) == [RED, GREEN, BLUE, YELLOW]


def test_linear_light_is_brightened_even_if_it_is_called_srgb(tmp_path: Path) -> None:
    """A curve with gamma 1 in place of sRGB's: half of the light is 188 of 255."""
    named = profile(("sRGB".encode("utf-16-be"), "sRGB linear".encode("utf-16-be")[:8]))
    place = named.index(b"para")
    straight = bytearray(named)
    straight[place + 8 : place + 12] = struct.pack(">HH", 0, 0)  # y = x ** g
    straight[place + 12 : place + 16] = struct.pack(">i", 1 << 16)  # g = 1
    Image.new("RGB", (4, 4), (128, 128, 128)).save(tmp_path / "a.png", icc_profile=bytes(straight))
    assert load_image(tmp_path / "a.png").getpixel((0, 0)) == (128, 128, 128)  # by its name it is sRGB
    renamed = bytes(straight).replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
    Image.new("RGB", (4, 4), (128, 128, 128)).save(tmp_path / "a.png", icc_profile=renamed)
    assert near(load_image(tmp_path / "a.png").getpixel((0, 0)), (188, 188, 188), 2)


def test_alpha_and_a_profile_together(tmp_path: Path) -> None:
    swapped = profile((b"rXYZ", b"tmpZ"), (b"gXYZ", b"rXYZ"), (b"tmpZ", b"gXYZ"))
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (0, 0, 2, 4))
    image.save(tmp_path / "a.png", icc_profile=swapped)
    shown = load_image(tmp_path / "a.png")
    assert near(shown.getpixel((3, 3)), GREEN) and shown.getpixel((0, 0)) == WHITE
