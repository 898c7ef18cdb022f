"""Copies are left out, look-alikes told or left out, and flat pictures are nobody's doubles."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from vlm_selfalign.core.registry import resolve
from vlm_selfalign.data import doubles
from vlm_selfalign.data.doubles import LOOKS_ALIKE, SAME_PIXELS
from vlm_selfalign.data.folder import folder
from vlm_selfalign.data.jsonl import jsonl
from vlm_selfalign.data.listing import REPEATED, Listing

from .made import encoded, photo

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Fourteen files: an original with seven doubles, one that looks like no other, and flat ones."""
    original, other = photo(1, (192, 128)), photo(2, (192, 128))
    tagged = Image.Exif()
    tagged[270] = "a caption"  # ImageDescription
    files = {
        "a_original.png": encoded(original),
        "b_copy.png": encoded(original),
        "c_tagged.png": encoded(original, exif=tagged),
        "d_lossless.bmp": encoded(original, "BMP"),
        "e_jpeg.jpg": encoded(original, "JPEG", quality=40),
        "f_half.png": encoded(original.resize((96, 64), Image.Resampling.LANCZOS)),
        "g_bright.png": encoded(ImageEnhance.Brightness(original).enhance(1.2)),
        "h_jpeg_half.jpg": encoded(original.resize((96, 64)), "JPEG", quality=60),
        "i_other.png": encoded(other),
        "j_mirrored.png": encoded(original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "k_black.png": encoded(Image.new("RGB", (192, 128), "black")),
        "l_red.png": encoded(Image.new("RGB", (192, 128), "red")),
        "m_white.png": encoded(Image.new("RGB", (192, 128), "white")),
        "n_black_small.png": encoded(Image.new("RGB", (96, 64), "black")),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def letters(addresses: object) -> str:
    return "".join(os.path.basename(address)[0] for address in addresses)  # type: ignore


def listed(listing: Listing) -> str:
    return letters(sample.prompt.media[0].uri for sample in listing)


def test_look_alikes_are_told(photos: Path) -> None:
    with pytest.warns(UserWarning, match=r"5 pictures look alike, in 1 group; first: .*a_orig.*e_jpeg.*=drop"):
        listing = folder(str(photos))
    assert listed(listing) == "aefghijklmn"
    assert listing.repeats == {REPEATED: 1, SAME_PIXELS: 2}
    assert [letters(group) for group in listing.alike] == ["aefgh"]


def test_look_alikes_are_dropped(photos: Path) -> None:
    with warnings.catch_warnings(action="error"):
        listing = folder(str(photos), near_duplicates="drop")
    assert listed(listing) == "aijklmn"
    assert listing.repeats == {REPEATED: 1, SAME_PIXELS: 2, LOOKS_ALIKE: 4}
    assert listing.alike == []


def test_nobody_has_to_look(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(action="error"):
        assert listed(folder(str(photos), near_duplicates="off")) == "acdefghijklmn"
        monkeypatch.setattr(doubles, "FEW", 3)
        assert listed(folder(str(photos))) == "acdefghijklmn"
    with pytest.warns(UserWarning, match="look alike"):
        folder(str(photos), near_duplicates="report")


def test_other_questions_about_look_alikes_are_other_samples(photos: Path) -> None:
    (photos / "m.jsonl").write_text(
        '{"image": "a_original.png"}\n{"image": "e_jpeg.jpg", "prompt": "How many?"}\n'
        '{"image": "f_half.png", "id": "mine"}\n{"image": "c_tagged.png"}\n{"image": "h_jpeg_half.jpg"}\n'
        '{"images": ["a_original.png", "i_other.png"]}\n{"images": ["e_jpeg.jpg", "i_other.png"]}\n{"text": "a"}'
    )
    listing = jsonl(str(photos / "m.jsonl"), near_duplicates="drop")
    assert [s.prompt.question for s in listing] == [
        "Describe the image.",
        "How many?",
        *["Describe the image."] * 2,
        "a",
    ]
    assert listing.repeats == {SAME_PIXELS: 1, LOOKS_ALIKE: 2}


def test_a_picture_is_compared_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="look alike"):
        before = folder(str(photos))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(doubles, "load_image", never)
    with pytest.warns(UserWarning, match="look alike"):
        after = folder(str(photos))
    assert after.alike == before.alike and list(after) == list(before)


def test_a_picture_that_cannot_be_decoded_stops_nothing(photos: Path) -> None:
    whole = (photos / "a_original.png").read_bytes()
    (photos / "z_cut.png").write_bytes(whole[: len(whole) // 2])
    assert listed(folder(str(photos), near_duplicates="drop")) == "aijklmnz"


def test_the_setting_is_checked(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"near_duplicates.*'report'"):
        resolve("source", "folder").build({"path": str(photos), "near_duplicates": "yes"})
