"""Addresses with a scheme go to whoever owns the scheme; everything else is a path."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.seeds import digest_bytes
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image
from vlm_selfalign.media.uris import opener, path_of, scheme_of, uri_of


def written(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


@opener("test-drawn")
def draw(uri: str) -> Image.Image:
    colour = uri.removeprefix("test-drawn:")
    if colour == "bad":
        raise UserError("no such colour")
    return Image.new("RGBA", (5, 4), colour)


@opener("test-bytes")
def read(uri: str) -> bytes:
    return written(uri.removeprefix("test-bytes:"))


@opener("test-clip")
def play(uri: str) -> Clip:
    return Clip(np.zeros((2, 4, 5, 3), np.uint8), np.arange(2.0), np.arange(2), 1.0, 2, 2.0)


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [("world:7", "world"), ("a/world:7", ""), ("C:\\x.png", ""), ("./world:7", ""), ("/x:y", ""), ("x.png", "")],
)
def test_what_is_a_scheme(uri: str, scheme: str) -> None:
    assert scheme_of(uri) == scheme


@pytest.mark.parametrize("path", ["a.png", "/a b/%41#?.png", "C:\\x.png", "odd\udcff.png", "world:7.png"])
def test_paths_survive_being_addresses(path: str) -> None:
    uri = uri_of(path)
    uri.encode("utf-8")
    assert scheme_of(uri) in ("", "file")
    assert path_of(uri).removeprefix("./") == path


def test_openers_draw_pictures_or_hand_over_files() -> None:
    drawn = load_image("test-drawn:#ff000000")
    assert drawn.mode == "RGB" and drawn.getpixel((0, 0)) == (255, 255, 255)
    assert load_image("test-bytes:red").getpixel((0, 0)) == (255, 0, 0)
    view = Media(kind="image", uri="test-drawn:red", content_hash="x").viewed("blank")
    assert load_image(view).getpixel((0, 0)) != (255, 0, 0)


def test_bytes_from_an_opener_are_under_the_same_limits() -> None:
    with pytest.raises(MediaError, match="too many pixels"):
        load_image("test-bytes:red", max_pixels=19)
    with pytest.raises(MediaError, match="too many bytes"):
        load_image("test-bytes:red", max_bytes=10)
    kept = Media(kind="image", uri="test-bytes:red", content_hash=digest_bytes(written("red")))
    assert load_image(kept).size == (5, 4)
    with pytest.raises(MediaError, match="changed"):
        load_image(kept.model_copy(update={"uri": "test-bytes:blue"}))


@pytest.mark.parametrize("uri", ["http://127.0.0.1/x.png", "https://x.org/x.png", "data:image/png;base64,AAAA"])
def test_nothing_is_fetched(uri: str) -> None:
    with pytest.raises(MediaError, match="not fetched"):
        load_image(uri)


def test_a_drawn_clip_is_no_picture() -> None:
    with pytest.raises(MediaError, match="a clip, not a picture"):
        load_image("test-clip:1")


def test_a_refusing_or_missing_opener_is_a_media_error() -> None:
    with pytest.raises(MediaError, match="no such colour"):
        load_image("test-drawn:bad")
    with pytest.raises(MediaError, match="nothing opens 'nosuch:'"):
        load_image("nosuch:1")
    with pytest.raises(MediaError, match="draws no pictures"):
        load_image("folder:1")


def test_importing_a_source_registers_its_opener() -> None:
    with pytest.raises(MediaError, match="no such file"):
        load_image("parquet:/nowhere.parquet#0/image")
