"""Clips drawn at random: codec, container, size, rate, group of pictures, late start, cut.

``MEDIA_TESTS=full`` draws 100 of them instead of a quarter.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from vlm_selfalign.media.readers import Request
from vlm_selfalign.media.readers.pyav import read

from .clips import Recipe, changed, make, numbers

COUNT = 100 if os.environ.get("MEDIA_TESTS") == "full" else 25

KINDS = (
    Recipe("x264"),
    Recipe("x264", suffix="mkv"),
    Recipe("x264", suffix="mov"),
    Recipe("x264", suffix="ts"),
    Recipe("x264", suffix="flv"),
    Recipe("x265", "libx265", "mp4"),
    Recipe("x265", "libx265", "mkv"),
    Recipe("x265", "libx265", "ts"),
    Recipe("vp9", "libvpx-vp9", "webm"),
    Recipe("vp9", "libvpx-vp9", "mp4"),
    Recipe("av1", "libsvtav1", "mkv"),
    Recipe("mpeg4", "mpeg4", "mp4", options=(("bf", "2"),)),
    Recipe("mpeg4", "mpeg4", "avi", options=(("bf", "2"),)),
    Recipe("mpeg2", "mpeg2video", "ts", options=(("bf", "2"),)),
    Recipe("wmv", "wmv2", "wmv"),
    Recipe("gif", "gif", "gif", pixels="rgb8"),
)


def times(chance: np.random.Generator, count: int, variable: bool) -> tuple[Fraction, ...]:
    """A steady rate, or pieces of different ones, in whole milliseconds."""
    if not variable:
        rate = Fraction(int(chance.choice([12, 24, 25, 30, 50])))
        return tuple(k / rate for k in range(count))
    rates = chance.choice([2, 5, 10, 25, 50], 4)
    gaps = [Fraction(1, int(rates[4 * k // count])) for k in range(count)]
    return tuple(sum(gaps[:k], Fraction(0)) for k in range(count))


def recipe_of(seed: int) -> Recipe:
    chance = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    steady = kind.codec in ("mpeg4", "mpeg2video", "wmv2", "gif")
    shown = times(chance, int(chance.integers(20, 160)), not steady and chance.random() < 0.5)
    rate = 1 / (shown[1] - shown[0]) if steady else Fraction(30)
    rate = Fraction(25) if kind.codec in ("mpeg2video", "gif") else rate
    fields: dict[str, object] = {
        "name": f"random-{seed}",
        "width": int(chance.choice([64, 96, 128, 176])),
        "height": int(chance.choice([48, 64, 96, 144])),
        "gop": int(chance.choice([1, 5, 12, 48, 300])),
        "first": int(chance.integers(0, 60_000)),
        "rate": rate,
        "times": tuple(k / rate for k in range(len(shown))) if steady else shown,
        "tick": {"gif": Fraction(1, 100)}.get(kind.codec, 1 / rate) if steady else kind.tick,
    }
    if kind.codec == "libx264":
        more = f"bframes={chance.integers(0, 5)}:open-gop={chance.integers(0, 2)}:scenecut={chance.choice([0, 40])}"
        fields["options"] = (("x264-params", more),)
        fields["rotation"] = int(chance.choice([0, 0, 90, 180])) if kind.suffix in ("mp4", "mov") else 0
    if kind.suffix in ("mkv", "ts", "webm") and chance.random() < 0.3:
        fields["offset"] = Fraction(int(chance.integers(1, 5000)))
    return changed(kind, **fields)


def trimmed(recipe: Recipe, chance: np.random.Generator) -> tuple[Recipe, Recipe]:
    """How to encode it so that an edit list hides its first frames, and what is then left to see."""
    cut = int(chance.integers(1, len(recipe.times) // 2))
    hidden = changed(recipe, offset=-recipe.times[cut], muxing=(("avoid_negative_ts", "disabled"),))
    left = tuple(time - recipe.times[cut] for time in recipe.times[cut:])
    return hidden, changed(recipe, first=recipe.first + cut, times=left)


def test_random_clips(tmp_path: Path) -> None:
    wrong = []
    for seed in range(COUNT):
        recipe = recipe_of(seed)
        chance, stored = np.random.default_rng(seed + 10**6), recipe
        if recipe.suffix in ("mp4", "mov") and recipe.codec == "libx264" and chance.random() < 0.5:
            stored, recipe = trimmed(recipe, chance)
        path, count = make(stored, tmp_path), int(chance.choice([4, 8, 16, 32]))
        clip = read(str(path), Request(frames=count, threads=int(chance.integers(1, 3))))
        got, wanted = numbers(clip.frames), recipe.wanted(count)
        off = [99 if g is None else abs(g - w) for g, w in zip(got, wanted, strict=False)]
        if clip.quality != "ok" or len(got) != len(wanted) or max(off) > 1:
            wrong.append((recipe, clip.quality, clip.reasons, got, wanted))
        path.unlink()
    assert len(wrong) <= COUNT // 100, wrong
    assert not [w for w in wrong if w[1] == "ok"], wrong
