"""A damaged picture is refused although its decoder would show it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.media import integrity
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import decode, load_image

from .drawn import BLUE, GREEN, RED, YELLOW, chunk, corners, near, png, quadrants, refusal


def test_a_png_with_a_wrong_check_sum_is_refused(tmp_path: Path) -> None:
    data = bytearray(png(16, 16, 8, 0, bytes(17 * 16)))
    data[data.index(b"IDAT") + 12] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    assert refusal(tmp_path / "a.png").stage == "decode"


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND", b"tEXt"])
def test_every_check_sum_counts(tmp_path: Path, kind: bytes) -> None:
    whole = png(16, 16, 8, 0, bytes(17 * 16), chunk(b"tEXt", b"a\0b"))
    data = bytearray(whole)
    place = data.index(kind)
    (length,) = struct.unpack(">I", data[place - 4 : place])
    data[place + 4 + length] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    refusal(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(whole)
    assert load_image(tmp_path / "a.png").size == (16, 16)


def test_a_png_without_its_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(16, 16, 8, 0, bytes(17 * 16))[:-12])
    assert refusal(tmp_path / "a.png").reason == "a cut file"


def test_a_png_in_endless_pieces_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = png(1, 1, 8, 0, b"")[:33]
    parts = start + chunk(b"IDAT", b"") * 50 + chunk(b"IDAT", zlib.compress(b"\0\7")) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(parts)
    assert load_image(tmp_path / "a.png").getpixel((0, 0)) == (7, 7, 7)
    monkeypatch.setattr(integrity, "PNG_PIECES", 20)
    assert refusal(tmp_path / "a.png").detail == "OSError: too many pieces"


KINDS: list[dict[str, object]] = [{}, {"progressive": True}, {"restart_marker_blocks": 7}, {"optimize": True}]


def jpeg(**settings: object) -> bytearray:
    x, y = np.meshgrid(np.linspace(0, 6, 256), np.linspace(0, 6, 256))
    smooth = np.stack([np.sin(x * y), np.cos(x + y * y), np.sin(x * 3)], -1) * 100 + 128
    grain = np.random.default_rng(0).normal(0, 10, smooth.shape)
    buffer = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85, **settings)
    return bytearray(buffer.getvalue())


def reason(data: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        decode(io.BytesIO(data), "x")
    return caught.value.reason


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_jpeg_that_ends_in_zeros_is_cut(settings: dict[str, object]) -> None:
    """What is left of a download that stopped after the space was reserved."""
    data = jpeg(**settings)
    for share in (0.3, 0.5, 0.9):
        kept = int(len(data) * share)
        assert reason(bytes(data[:kept]) + bytes(len(data) - kept)) == "a cut file"


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_jpeg_with_noise_in_its_middle_is_refused(settings: dict[str, object]) -> None:
    whole = jpeg(**settings)
    start = len(whole) // 3
    for seed in range(30):
        noise = np.random.default_rng(seed).bytes(start).replace(b"\xff\xd9", b"\xff\xff")  # the end cannot be doubted
        assert reason(bytes(whole[:start] + noise + whole[2 * start :])) == "cannot be decoded"


def test_a_lost_restart_is_noticed() -> None:
    data = jpeg(restart_marker_blocks=7)
    first, third = data.index(b"\xff\xd0"), data.index(b"\xff\xd2")
    assert reason(bytes(data[:first] + data[third:])) == "cannot be decoded"


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_whole_jpegs_pass(settings: dict[str, object]) -> None:
    data = bytes(jpeg(**settings))
    for whole in (data, data + b"appended" + bytes(1000), data[:2] + b"\xff\xff\xff" + data[3:]):
        assert decode(io.BytesIO(whole), "x").size == (256, 256)


def test_a_thumbnail_inside_ends_nothing(tmp_path: Path) -> None:
    small = io.BytesIO()
    quadrants().save(small, "JPEG")
    quadrants().save(tmp_path / "a.jpg", quality=95, comment=small.getvalue())
    assert near(corners(load_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, YELLOW])
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:-2])
    assert refusal(tmp_path / "a.jpg").reason == "a cut file"
