"""Every picture comes out as a person sees it, or is refused with one reason before it costs anything."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.core.media import Media
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import image_media, load_image

from .drawn import BLUE, GREEN, RED, YELLOW, corners, near, png, quadrants, refusal

# the right way up

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


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    quadrants().save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert near(corners(load_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage",
        b"Exif\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0",  # the orientation is a text
    ],
    ids=["garbage", "empty", "text"],
)
def test_a_malformed_exif_block_is_ignored(tmp_path: Path, ending: str, block: bytes) -> None:
    quadrants().save(tmp_path / f"a.{ending}", exif=block, quality=95)
    assert near(corners(load_image(tmp_path / f"a.{ending}")), [RED, GREEN, BLUE, YELLOW], 30)


def test_a_draft_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    quadrants((800, 1600)).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    shown = load_image(tmp_path / "a.jpg", draft_pixels=200 * 400)
    assert shown.size == (200, 400)
    assert near(corners(shown), [RED, GREEN, BLUE, YELLOW])


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


@pytest.mark.parametrize("ending", ["png", "jpg", "gif"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (1, 65000), (65000, 1)])
def test_narrow_pictures(tmp_path: Path, size: tuple[int, int], ending: str) -> None:
    Image.new("RGB", size, RED).save(tmp_path / f"a.{ending}")
    shown = load_image(tmp_path / f"a.{ending}")
    assert shown.size == size and near(shown.getpixel((0, 0)), RED)


@pytest.mark.parametrize("settings", [{"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": "4:1:1"}])
def test_kinds_of_jpeg(tmp_path: Path, settings: dict[str, object]) -> None:
    quadrants().save(tmp_path / "a.jpg", quality=95, **settings)
    assert near(corners(load_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, YELLOW])
    quadrants().convert("L").save(tmp_path / "b.jpg")
    assert load_image(tmp_path / "b.jpg").mode == "RGB"


def test_a_draft_has_fewer_pixels_but_enough(tmp_path: Path) -> None:
    quadrants((1600, 800)).save(tmp_path / "a.jpg", quality=95)
    draft = load_image(tmp_path / "a.jpg", draft_pixels=400 * 200)
    assert draft.size == (400, 200)
    assert near(corners(draft), [RED, GREEN, BLUE, YELLOW])
    assert load_image(tmp_path / "a.jpg", draft_pixels=401 * 201).size == (800, 400)
    assert load_image(tmp_path / "a.jpg", draft_pixels=1 << 30).size == (1600, 800)
    assert load_image(tmp_path / "a.jpg", draft_pixels=1).size == (200, 100)


# refusals


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "bmp", "tif", "jp2", "avif", "ppm"])
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


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
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


def test_a_clip_is_not_a_picture() -> None:
    assert refusal(Media(kind="video", uri="a.mp4", content_hash="")).reason == "a clip, not a picture"
