"""Named, seeded degradations of a picture: what a model is shown when it should see less.

    apply_views(picture, (View(name="noise", amount=0.5, seed=3), View(name="grey")))

A view is a pure function of (picture, amount, seed): the same three give the same pixels, ``amount`` 0 gives the
picture itself, 1 the most. The size never changes, so neither does the number of image tokens. Clips have these views
too, and more: ``vlm_selfalign.media.clip_views``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.media import View
from vlm_selfalign.core.seeds import seed_of

Degradation = Callable[[Image.Image, float, np.random.Generator], Image.Image]

VIEWS: dict[str, Degradation] = {}

# Mean and deviation of pixels by which most vision towers normalise; noise and "no picture" are meant in that space.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32) * 255
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32) * 255


CLIPS_ONLY = frozenset({"drop", "freeze", "reverse", "segment", "shuffle_frames", "shuffle_nearby", "speed"})
"""Views that only ``clip_views`` has, to say so of a picture."""


def view(function: Degradation) -> Degradation:
    """Register a degradation under its name; it gets an RGB picture, an amount in (0, 1] and a generator."""
    VIEWS[function.__name__] = function
    return function


def apply_views(image: Image.Image, views: Iterable[View]) -> Image.Image:
    """The RGB picture through the views, first to last. Raises ``UserError`` on an unknown view or amount."""
    for one in views:
        _check_name(one.name)
        if check_amount(one) > 0:
            image = VIEWS[one.name](image, one.amount, chance_of(one))
    return image


def check_amount(one: View) -> float:
    """The view's amount. Raises ``UserError`` unless it is between 0 and 1."""
    if not 0 <= one.amount <= 1:
        raise UserError(f"view '{one.name}': amount {one.amount} is not between 0 and 1")
    return one.amount


def chance_of(one: View) -> np.random.Generator:
    """The view's own chance: another for every name and seed, the same whatever the picture or amount."""
    return np.random.Generator(np.random.PCG64(seed_of("view", one.name, one.seed)))


def new_order(count: int, chance: np.random.Generator) -> np.ndarray:
    """A random order of ``count`` things, evenly drawn from all but the one they are in (there must be two).

    A shuffle that happened to move nothing would be a degraded view that is not degraded.
    """
    while True:
        order = chance.permutation(count)
        if count < 2 or np.any(order != np.arange(count)):
            return order


def _check_name(name: str) -> None:
    if name in CLIPS_ONLY:
        raise UserError(f"view '{name}' is for clips and this is a picture{nearest(name, VIEWS)}")
    if name not in VIEWS:
        raise UserError(f"no view called '{name}'{nearest(name, VIEWS)}")


@view
def noise(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    r"""Diffusion noise, x_t = sqrt(a_t) x + sqrt(1 - a_t) e with t = 1000 ``amount`` and VCD's schedule.

    VCD (Leng et al., 2024) and POVID (Zhou et al., 2024) show t = 500, that is ``amount`` .5. They add it to the
    336 pixels a side that the model sees. Larger pictures get grains of several pixels, so that the model's own
    shrinking does not average the noise away.
    """
    kept = _alphas()[min(round(amount * 1000), 999)]
    grain = max(1, round(min(image.size) / 336))
    clean = np.asarray(image)
    noisy = np.empty_like(clean)
    for top in range(0, image.height, 64 * grain):  # in bands: a large picture in floating point takes gigabytes
        rows = clean[top : top + 64 * grain]
        shape = (-(-len(rows) // grain), -(-image.width // grain), 3)
        drawn = chance.standard_normal(shape, np.float32).repeat(grain, 0).repeat(grain, 1)
        mixed = np.sqrt(kept) * (rows.astype(np.float32) - MEAN) / DEVIATION
        mixed += np.sqrt(1 - kept) * drawn[: len(rows), : image.width]
        noisy[top : top + 64 * grain] = np.clip(np.rint(mixed * DEVIATION + MEAN), 0, 255)
    return Image.fromarray(noisy)


@view
def low_resolution(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """Shrink and enlarge again: at 1 the shorter side has 20 pixels (a quarter, if that is less).

    STIC (Deng et al., 2024) shrinks the shorter side to 20 pixels for half of its corrupted pictures. Between 0 and
    1 the side shrinks geometrically.
    """
    short = min(image.size)
    scale = (max(1.0, min(20.0, short / 4)) / short) ** amount
    small = image.resize(_scaled(image, scale), Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BILINEAR)


@view
def blur(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """Gaussian blur with a deviation of ``amount`` / 16 of the shorter side (as in ImageNet-C, Hendrycks 2019)."""
    return image.filter(ImageFilter.GaussianBlur(amount * min(image.size) / 16))


@view
def jitter(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """Wrong colours: brightness times 1 ± .5 ``amount`` and hue turned by ± .3 ``amount`` of the circle, at random.

    STIC (Deng et al., 2024): colour jitter with brightness .5 and hue .3 for the other half of its pictures.
    """
    brightness, turn = 1 + chance.uniform(-0.5, 0.5) * amount, chance.uniform(-0.3, 0.3) * amount
    lit = ImageEnhance.Brightness(image).enhance(brightness)
    hue, saturation, value = lit.convert("HSV").split()
    shift = round(turn * 256)
    turned = Image.merge("HSV", (hue.point([(h + shift) % 256 for h in range(256)]), saturation, value))
    return turned.convert("RGB")


@view
def crop(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """Keep a random window of the same shape, enlarged: at 1 it holds 0 to 20 % of the area, evenly drawn.

    mDPO (Wang et al., 2024) conditions its rejected side on a random crop of 0-20 %.
    """
    share = 1 - amount * (1 - chance.uniform(0, 0.2))
    return image.crop(_window(image, share, chance)).resize(image.size, Image.Resampling.BILINEAR)


@view
def mask(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """A near-white rectangle over ``amount`` of the area, somewhere.

    RRPO (Sarkar et al., 2025) covers 25-50 % of a clip, at the same place in all frames, to provoke wrong answers;
    OPA-DPO (Yang et al., 2025) 30 % of its pictures.
    """
    masked = image.copy()
    masked.paste((250, 250, 250), _window(image, amount, chance))
    return masked


@view
def blank(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """Fade to one flat colour, which vision towers normalise to zero: at 1 nothing is left.

    V-DPO (Xie et al., 2024) contrasts the picture with all-zero pixel values.
    """
    flat = Image.new("RGB", image.size, tuple(round(float(channel)) for channel in MEAN))
    return Image.blend(image, flat, amount)


@view
def grey(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """Fade to grey: shapes stay, colours go, so that a colour named is a colour guessed.

    The random greyscale of contrastive learning (SimCLR, Chen et al., 2020), here at any strength.
    """
    return Image.blend(image, image.convert("L").convert("RGB"), amount)


@view
def shuffle_patches(image: Image.Image, amount: float, chance: np.random.Generator) -> Image.Image:
    """Cut into square patches, eight to the shorter side, and deal ``amount`` of them (at least two) out at random.

    Textures and colours stay, objects and places go, as Naseer et al. (2021) take the structure out of pictures for
    vision transformers. The counterpart in time is ``shuffle_frames``.
    """
    side = max(1, min(image.size) // 8)
    columns, rows = image.width // side, image.height // side
    count = min(max(2, round(amount * columns * rows)), columns * rows)
    moved = chance.permutation(columns * rows)[:count]
    shuffled = image.copy()
    for target, origin in zip(moved, moved[new_order(count, chance)], strict=True):
        patch = image.crop(_patch(int(origin), columns, side))
        shuffled.paste(patch, _patch(int(target), columns, side))
    return shuffled


def _alphas() -> np.ndarray:
    """Cumulative products of 1 - beta_t over 1000 steps of the sigmoid schedule."""
    betas = (1 / (1 + np.exp(-np.linspace(-6, 6, 1000)))) * (0.5e-2 - 1e-5) + 1e-5
    return np.cumprod(1 - betas).astype(np.float32)


def _scaled(image: Image.Image, scale: float) -> tuple[int, int]:
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _window(image: Image.Image, share: float, chance: np.random.Generator) -> tuple[int, int, int, int]:
    """A random box (left, top, right, bottom) of ``share`` of the area and the picture's own shape."""
    width, height = _scaled(image, share**0.5)
    left = int(chance.integers(image.width - width + 1))
    top = int(chance.integers(image.height - height + 1))
    return left, top, left + width, top + height


def _patch(index: int, columns: int, side: int) -> tuple[int, int, int, int]:
    row, column = divmod(index, columns)
    return column * side, row * side, (column + 1) * side, (row + 1) * side
