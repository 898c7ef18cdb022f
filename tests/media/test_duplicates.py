"""Copies are found however they were made, strangers and flat pictures are left apart, and many are no trouble."""

from __future__ import annotations

import io
import itertools
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.seeds import digest_file
from vlm_selfalign.media.duplicates import NEAR, difference_hash, exact_groups, near_groups, pixel_hash
from vlm_selfalign.media.image import load_image

bits = st.integers(0, 2**64 - 1)


def photo(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Noise with the spectrum of photographs, power 1 / f ** 2: many large shapes, few small ones."""
    width, height = size
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    frequency[0, 0] = np.inf
    waves = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    shapes = np.fft.irfft2(waves / frequency, (height, width))
    shapes = shapes / shapes.std()
    colours = np.stack([shapes * 45 + 120, shapes * 40 + 115, shapes * 38 + 110], -1)
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def apart(one: Image.Image, other: Image.Image) -> int:
    first, second = difference_hash(one), difference_hash(other)
    assert first is not None and second is not None
    return (first ^ second).bit_count()


CHANGES = {
    "quality 40": lambda image: encoded(image, 40),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "twice the size": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.LANCZOS),
    "30 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_near(change: str) -> None:
    assert max(apart(photo(seed), CHANGES[change](photo(seed))) for seed in range(20)) <= NEAR


def test_strangers_mirrors_and_crops_are_not() -> None:
    photos = [photo(seed, (64, 48)) for seed in range(120)]
    marks = [difference_hash(one) or 0 for one in photos]
    assert min((one ^ other).bit_count() for one, other in itertools.combinations(marks, 2)) > 2 * NEAR
    assert min(apart(one, ImageOps.mirror(one)) for one in photos) > NEAR
    crops = [apart(one, one.crop((3, 2, 61, 46))) for one in map(photo, range(20))]
    assert np.median(crops) > NEAR  # what the documentation says of crops


FLAT = {
    "red": Image.new("RGB", (64, 64), "red"),
    "another red": Image.new("RGB", (32, 48), (250, 3, 3)),
    "blue": Image.new("RGB", (64, 64), "blue"),
    "black": Image.new("RGB", (64, 64)),
    "slope": Image.fromarray(np.tile(np.linspace(0, 255, 90).astype(np.uint8), (64, 1))).convert("RGB"),
    "slope down": Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (90, 1)).T).convert("RGB"),
    "white with grain": Image.fromarray(np.random.default_rng(0).integers(250, 256, (64, 64, 3), dtype=np.uint8)),
}


@pytest.mark.parametrize("name", FLAT)
def test_flat_pictures_have_no_hash(name: str) -> None:
    assert difference_hash(FLAT[name]) is None
    assert difference_hash(encoded(FLAT[name], 90)) is None


def test_groups_of_fourteen(tmp_path: Path) -> None:
    """Two photographs, their copies of all kinds, and flat pictures: what is one, what nearly, what neither."""
    first, second = photo(1), photo(2)
    pictures = {"first": first, "second": second, "copy": first.copy(), "mirrored": ImageOps.mirror(first)}
    pictures |= {change: CHANGES[change](first) for change in ("quality 40", "half the size", "30 % brighter")}
    pictures |= {"second small": CHANGES["half the size"](second), "stranger": photo(3)}
    pictures |= {name: FLAT[name] for name in ("red", "another red", "blue", "slope")}
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
    first.save(tmp_path / "tagged.png", dpi=(72, 72))
    files = {path.stem: path for path in sorted(tmp_path.iterdir())}
    shown = {name: load_image(path) for name, path in files.items()}
    assert len(files) == 14
    assert exact_groups({name: digest_file(path) for name, path in files.items()}) == [("copy", "first")]
    assert exact_groups({name: pixel_hash(one) for name, one in shown.items()}) == [("copy", "first", "tagged")]
    near = near_groups({name: difference_hash(one) for name, one in shown.items()})
    assert near == [
        ("30 % brighter", "copy", "first", "half the size", "quality 40", "tagged"),
        ("second small", "second"),
    ]


def test_scenes_of_the_drawn_world_are_told_apart() -> None:
    """They are what is hardest: few small things before much the same ground."""
    scenes = itertools.islice(resolve("source", "world")(), 80)
    marks = {sample.id: difference_hash(load_image(sample.prompt.media[0])) for sample in scenes}
    assert len(marks) == 80 and None not in marks.values()
    assert near_groups(marks) == []


def test_same_pixels_of_another_shape_are_another_picture() -> None:
    assert pixel_hash(Image.new("RGB", (2, 3))) != pixel_hash(Image.new("RGB", (3, 2)))
    assert pixel_hash(photo(1)) == pixel_hash(photo(1)) != pixel_hash(photo(2))


def test_exact_groups_keep_the_order_given() -> None:
    assert exact_groups({"b": "1", "a": "2", "c": "1", "d": "3", "e": "2"}) == [("b", "c"), ("a", "e")]
    assert exact_groups({}) == []


def plain(hashes: dict[str, int | None], distance: int) -> list[tuple[str, ...]]:
    """Groups by comparing all with all."""
    groups = {name: {name} for name, mark in hashes.items() if mark is not None}
    for one, other in itertools.combinations(groups, 2):
        if (hashes[one] ^ hashes[other]).bit_count() <= distance and groups[one] is not groups[other]:  # type: ignore[operator]
            groups[one] |= groups[other]
            for name in groups[other]:
                groups[name] = groups[one]
    order = list(hashes)
    found = {tuple(sorted(group, key=order.index)) for group in groups.values() if len(group) > 1}
    return sorted(found, key=lambda group: order.index(group[0]))


@settings(deadline=None, max_examples=40)
@given(st.lists(bits, max_size=6), st.integers(0, 12), st.randoms(use_true_random=False))
def test_groups_are_those_of_comparing_all_with_all(seeds: list[int], distance: int, chance: random.Random) -> None:
    marks: list[int | None] = [None]
    for seed in seeds:
        for _ in range(5):
            flips = chance.sample(range(64), chance.randint(0, 14))
            seed ^= sum(1 << flip for flip in flips)
            marks.append(seed)
    chance.shuffle(marks)
    hashes = {str(number): mark for number, mark in enumerate(marks)}
    assert near_groups(hashes, distance) == plain(hashes, distance)


@settings(deadline=None, max_examples=40)
@given(st.lists(bits, min_size=2, max_size=8), st.integers(0, 64))
def test_any_distance_may_be_asked_for(marks: list[int], distance: int) -> None:
    hashes = {str(number): mark for number, mark in enumerate(marks)}
    assert near_groups(hashes, distance) == plain(dict(hashes), distance)


def test_nothing_and_one_have_no_groups() -> None:
    assert near_groups({}) == near_groups({"a": 3}) == near_groups({"a": None, "b": None}) == []
    assert near_groups({"a": 0, "b": 2**64 - 1, "c": 0}) == [("a", "c")]


@pytest.mark.parametrize("kind", ["even", "a quarter of the bits never change"])
def test_a_hundred_thousand_take_seconds(kind: str) -> None:
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    if kind != "even":
        marks >>= np.uint64(16)
    marks[99_000:] = marks[:1000] ^ (np.uint64(1) << rng.integers(0, 48, 1000, dtype=np.uint64))
    begin = time.process_time()
    groups = near_groups({str(number): int(mark) for number, mark in enumerate(marks)})
    assert time.process_time() - begin < 20
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    assert all(group_of[str(k)] == group_of[str(99_000 + k)] for k in range(1000))
    assert len(groups) < 1020
