"""Views are pure, seeded, keep the size, do nothing at 0 and more the higher the amount."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import View
from vlm_selfalign.media.clip_views import CLIP_VIEWS
from vlm_selfalign.media.views import DEVIATION, MEAN, VIEWS, apply_views, chance_of

names = st.sampled_from(sorted(VIEWS))
seeds = st.integers(0, 2**63 - 1)
amounts = st.floats(0, 1)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def photo(size: tuple[int, int] = (48, 36), seed: int = 0) -> Image.Image:
    """A smooth gradient with some grain: like a photograph, near pixels are alike."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    smooth = np.stack([x, y, 1 - x * y], -1) * 200
    grain = np.random.default_rng(seed).uniform(0, 55, smooth.shape)
    return Image.fromarray((smooth + grain).astype(np.uint8))


def pixels(image: Image.Image, *views: View) -> np.ndarray:
    return np.asarray(apply_views(image, views)).astype(int)


def test_the_names_recipes_may_use() -> None:
    wanted = {"noise", "blur", "low_resolution", "jitter", "crop", "mask", "blank", "grey", "shuffle_patches"}
    assert wanted == set(VIEWS)


@settings(deadline=None)
@given(names, amounts, seeds, sizes)
def test_same_seed_same_pixels_same_size_and_the_input_untouched(
    name: str, amount: float, seed: int, size: tuple[int, int]
) -> None:
    image = photo(size)
    before = image.tobytes()
    view = View(name=name, amount=amount, seed=seed)
    first, again = apply_views(image, [view]), apply_views(image.copy(), [view])
    assert first.tobytes() == again.tobytes()
    assert first.size == size and first.mode == "RGB"
    assert image.tobytes() == before


@settings(deadline=None)
@given(names, seeds)
def test_amount_zero_changes_nothing(name: str, seed: int) -> None:
    image = photo()
    assert apply_views(image, [View(name=name, amount=0, seed=seed)]).tobytes() == image.tobytes()


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_more_is_more(name: str) -> None:
    """Averaged over seeds (a jitter may draw little), the distance to the picture grows with the amount."""
    image = photo()
    clean = pixels(image)
    distances = [
        np.mean([np.abs(pixels(image, View(name=name, amount=a, seed=s)) - clean).mean() for s in range(20)])
        for a in (0.1, 0.4, 1.0)
    ]
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("name", ["noise", "jitter", "crop", "mask", "shuffle_patches"])
def test_other_seed_other_pixels(name: str) -> None:
    image = photo()
    shown = {pixels(image, View(name=name, amount=0.5, seed=s)).tobytes() for s in range(8)}
    assert len(shown) == 8


def test_views_stack_in_order() -> None:
    image = photo()
    grey, mask = View(name="grey"), View(name="mask", amount=0.5, seed=1)
    both = pixels(image, grey, mask)
    assert np.array_equal(both, pixels(apply_views(image, [grey]), mask))
    assert apply_views(image, []).tobytes() == image.tobytes()


def test_noise_has_the_variance_of_the_schedule() -> None:
    r"""At t = 500 of VCD's schedule a_t is .749 (prod of 1 - beta): a flat picture at the mean gets 1 - a_t."""
    flat = Image.new("RGB", (128, 128), tuple(round(float(c)) for c in MEAN))
    spread = pixels(flat, View(name="noise", amount=0.5))[..., 0].std() / (0.26862954 * 255)
    betas = [1 / (1 + np.exp(6 - 12 * i / 999)) * (0.005 - 1e-5) + 1e-5 for i in range(501)]
    assert spread == pytest.approx(np.sqrt(1 - np.prod([1 - b for b in betas])), rel=0.02)


def test_low_resolution_keeps_20_pixels_of_the_shorter_side() -> None:
    chess = Image.fromarray(((np.indices((336, 336)) // 4).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    shown = pixels(chess, View(name="low_resolution"))
    assert shown.std() < 20  # 4-pixel squares cannot survive pixels of 17
    blocks = Image.fromarray(((np.indices((336, 336)) // 84).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    assert pixels(blocks, View(name="low_resolution")).std() > 80


def test_grey_and_blank_leave_no_colour_and_nothing() -> None:
    grey = pixels(photo(), View(name="grey"))
    assert np.array_equal(grey[..., 0], grey[..., 1]) and np.array_equal(grey[..., 0], grey[..., 2])
    assert np.ptp(pixels(photo(), View(name="blank")).reshape(-1, 3), axis=0).max() == 0


@settings(deadline=None)
@given(st.floats(0.01, 1), seeds)
def test_mask_covers_its_share(amount: float, seed: int) -> None:
    image = Image.new("RGB", (100, 100))
    covered = (pixels(image, View(name="mask", amount=amount, seed=seed))[..., 0] == 250).mean()
    assert covered == pytest.approx(amount, abs=0.02)


@settings(deadline=None)
@given(seeds)
def test_shuffle_only_moves(seed: int) -> None:
    image = photo((40, 40))
    shown = pixels(image, View(name="shuffle_patches", seed=seed))
    assert np.array_equal(np.sort(shown.reshape(-1, 3), axis=0), np.sort(pixels(image).reshape(-1, 3), axis=0))


@settings(deadline=None)
@given(st.floats(0.001, 1), seeds, st.integers(2, 40), st.integers(2, 40))
def test_a_shuffle_always_moves_something(amount: float, seed: int, width: int, height: int) -> None:
    colours = np.arange(width * height * 3).reshape(height, width, 3) % 251  # neighbouring patches all differ
    image = Image.fromarray(colours.astype(np.uint8))
    assert not np.array_equal(pixels(image, View(name="shuffle_patches", amount=amount, seed=seed)), pixels(image))


def test_noise_is_as_strong_in_a_large_picture() -> None:
    """Shrunk to what a model sees, a photograph and a thumbnail keep the same noise."""
    deviations = []
    for side in (336, 336 * 4):
        flat = Image.new("RGB", (side, side), (128, 128, 128))
        shown = apply_views(flat, [View(name="noise", amount=0.5)]).resize((336, 336), Image.Resampling.BOX)
        deviations.append(np.asarray(shown, float).std())
    assert deviations[1] == pytest.approx(deviations[0], rel=0.05)


@pytest.mark.parametrize("size", [(40, 200), (337, 90), (510, 504), (900, 701)])
def test_noise_in_bands_is_noise_at_once(size: tuple[int, int]) -> None:
    r"""Row after row of the same chance: x_t = sqrt(a) x + sqrt(1 - a) e, written once for the whole picture."""
    view = View(name="noise", amount=0.3, seed=9)
    clean, grain = np.asarray(photo(size), np.float32), max(1, round(min(size) / 336))
    field = chance_of(view).standard_normal((-(-size[1] // grain), -(-size[0] // grain), 3), np.float32)
    field = field.repeat(grain, 0).repeat(grain, 1)[: size[1], : size[0]]
    betas = 1 / (1 + np.exp(-np.linspace(-6, 6, 1000))) * (0.5e-2 - 1e-5) + 1e-5
    kept = np.cumprod(1 - betas)[300]
    whole = np.sqrt(kept) * (clean - MEAN) / DEVIATION + np.sqrt(1 - kept) * field
    wanted = np.clip(np.rint(whole * DEVIATION + MEAN), 0, 255)
    assert np.abs(pixels(photo(size), view) - wanted).max() <= 1


@settings(deadline=None)
@given(seeds)
def test_crop_shows_a_window(seed: int) -> None:
    """Enlarged from at most a fifth of the area, a gradient spans at most sqrt(.2) of its range."""
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8), (200, 1))).convert("RGB")
    assert np.ptp(pixels(ramp, View(name="crop", seed=seed))) <= 255 * 0.2**0.5 + 3


def test_unknown_views_and_amounts_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="did you mean 'noise'"):
        apply_views(photo(), [View(name="nois")])
    with pytest.raises(UserError, match="did you mean 'shuffle_patches'"):
        apply_views(photo(), [View(name="shuffle_patch")])
    with pytest.raises(UserError, match="no view called 'Blur'; did you mean 'blur'"):
        apply_views(photo(), [View(name="Blur", amount=0)])
    for name in CLIP_VIEWS:
        with pytest.raises(UserError, match=f"view '{name}' is for clips and this is a picture"):
            apply_views(photo(), [View(name=name)])
    with pytest.raises(UserError, match="did you mean 'shuffle_patches'"):
        apply_views(photo(), [View(name="shuffle_frames")])
    for amount in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="between 0 and 1"):
            apply_views(photo(), [View(name="noise", amount=amount)])
