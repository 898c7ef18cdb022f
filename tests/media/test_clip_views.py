"""Views of clips are pure and seeded, keep the time axis in order, and move what they say and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import View
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.clip_views import CLIP_VIEWS, WINDOW, apply_clip_views, clip_view
from vlm_selfalign.media.views import CLIPS_ONLY, VIEWS, apply_views

ORDER = ["shuffle_frames", "shuffle_nearby", "reverse", "freeze"]
FEWER = ["drop", "segment", "speed"]

times_only = st.sampled_from(sorted(CLIP_VIEWS))
names = st.sampled_from(sorted([*CLIP_VIEWS, *VIEWS]))
amounts = st.floats(0.001, 1)
seeds = st.integers(0, 2**63 - 1)
lengths = st.integers(1, 33)


def clip(length: int = 16, size: tuple[int, int] = (12, 10)) -> Clip:
    """Frame k is grain of its own around level 5 k, sampled at uneven times from a clip of 30 frames a second."""
    grain = np.random.default_rng(length).integers(0, 60, (length, size[1], size[0], 3))
    frames = (grain + 5 * np.arange(length)[:, None, None, None]).astype(np.uint8)
    indices = np.cumsum(1 + np.arange(length) % 3) + 3
    return Clip(frames, indices / 30.0, indices, 30.0, 200, 200 / 30)


def viewed(shown: Clip, name: str, amount: float = 1.0, seed: int = 0) -> Clip:
    return apply_clip_views(shown, [View(name=name, amount=amount, seed=seed)])


def origins(before: Clip, after: Clip) -> list[int]:
    """Which frame of the clip before each frame after is."""
    known = {frame.tobytes(): number for number, frame in enumerate(before.frames)}
    return [known[frame.tobytes()] for frame in after.frames]


def same(one: Clip, other: Clip) -> bool:
    arrays = ("frames", "times", "indices")
    rest = ("fps", "total", "duration", "quality", "reasons", "backend")
    return all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays) and all(
        getattr(one, name) == getattr(other, name) for name in rest
    )


def test_the_names_recipes_may_use() -> None:
    assert sorted(CLIP_VIEWS) == sorted(ORDER + FEWER)
    assert not CLIP_VIEWS.keys() & VIEWS.keys()
    assert CLIP_VIEWS.keys() == CLIPS_ONLY
    with pytest.raises(ValueError, match="view of a picture already"):

        @clip_view
        def mask(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
            return clip


@settings(deadline=None, max_examples=50)
@given(names, amounts, seeds, lengths)
def test_same_seed_same_clip_and_the_input_untouched(name: str, amount: float, seed: int, length: int) -> None:
    shown, untouched = clip(length), clip(length)
    first, again = viewed(shown, name, amount, seed), viewed(clip(length), name, amount, seed)
    assert same(first, again) and same(shown, untouched)
    assert first.frames.dtype == np.uint8 and first.frames.shape[1:] == shown.frames.shape[1:]


@settings(deadline=None, max_examples=50)
@given(names, seeds, lengths)
def test_amount_zero_changes_nothing(name: str, seed: int, length: int) -> None:
    assert same(viewed(clip(length), name, 0, seed), clip(length))


@settings(deadline=None, max_examples=50)
@given(names, amounts, seeds, lengths)
def test_the_time_axis_stays_in_order_and_belongs_to_the_frames(
    name: str, amount: float, seed: int, length: int
) -> None:
    after = viewed(clip(length), name, amount, seed)
    assert len(after) == len(after.times) == len(after.indices) >= 1
    assert np.all(np.diff(after.times) > 0) and np.all(np.diff(after.indices) > 0)
    assert set(after.indices) <= set(clip(length).indices)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([*ORDER, *VIEWS]), amounts, seeds, lengths)
def test_views_of_order_and_of_pictures_keep_the_whole_axis(name: str, amount: float, seed: int, length: int) -> None:
    before, after = clip(length), viewed(clip(length), name, amount, seed)
    assert same(after.with_(frames=before.frames), before)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["drop", "segment"]), amounts, seeds, lengths)
def test_fewer_frames_keep_their_own_times(name: str, amount: float, seed: int, length: int) -> None:
    before, after = clip(length), viewed(clip(length), name, amount, seed)
    kept = origins(before, after)
    assert np.array_equal(after.times, before.times[kept]) and np.array_equal(after.indices, before.indices[kept])
    assert len(kept) == max(1, length - max(1, round(amount * length)))
    assert (after.fps, after.total, after.duration) == (before.fps, before.total, before.duration)
    assert name == "drop" or kept == list(range(kept[0], kept[0] + len(kept)))


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(ORDER), amounts, seeds, st.integers(2, 33))
def test_a_view_of_order_is_never_the_clip_itself(name: str, amount: float, seed: int, length: int) -> None:
    before = clip(length)
    assert origins(before, viewed(before, name, amount, seed)) != list(range(length))


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["shuffle_frames", "shuffle_nearby", "reverse"]), amounts, seeds, lengths)
def test_shuffles_only_move(name: str, amount: float, seed: int, length: int) -> None:
    before = clip(length)
    assert sorted(origins(before, viewed(before, name, amount, seed))) == list(range(length))


@settings(deadline=None, max_examples=50)
@given(amounts, seeds, st.integers(2, 64))
def test_a_local_shuffle_is_local(amount: float, seed: int, length: int) -> None:
    before = clip(length, (2, 2))
    moved = np.abs(np.array(origins(before, viewed(before, "shuffle_nearby", amount, seed))) - np.arange(length))
    assert moved.max() <= WINDOW


def test_a_global_shuffle_is_global() -> None:
    before = clip(32)
    far = [np.abs(np.array(origins(before, viewed(before, "shuffle_frames", 1, s))) - np.arange(32)) for s in range(30)]
    assert np.mean(far) == pytest.approx(32 / 3, rel=0.1)  # of two even draws from n places, n / 3 apart
    half = [origins(before, viewed(before, "shuffle_frames", 0.5, s)) for s in range(30)]
    assert max(sum(o != k for k, o in enumerate(order)) for order in half) <= 16


def test_orders_of_two_frames_are_all_but_one() -> None:
    assert origins(clip(2), viewed(clip(2), "shuffle_frames")) == [1, 0]
    three = {tuple(origins(clip(3), viewed(clip(3), "shuffle_frames", 1, seed))) for seed in range(60)}
    assert len(three) == 5 and (0, 1, 2) not in three


def test_reverse_runs_backwards_and_twice_is_forwards() -> None:
    before = clip(9)
    assert origins(before, viewed(before, "reverse")) == list(range(9))[::-1]
    again = [View(name="reverse", amount=0.6, seed=5)] * 2
    assert same(apply_clip_views(before, again), before)
    places = origins(before, viewed(before, "reverse", 0.5, 3))
    moved = [k for k, o in enumerate(places) if o != k]
    assert places[moved[0] : moved[-1] + 1] == list(range(moved[0], moved[-1] + 1))[::-1] and len(moved) <= 4


@settings(deadline=None, max_examples=50)
@given(amounts, seeds, st.integers(2, 33))
def test_frozen_frames_repeat_the_last_one_shown(amount: float, seed: int, length: int) -> None:
    places = origins(clip(length), viewed(clip(length), "freeze", amount, seed))
    assert places[0] == 0 and places == sorted(places)
    assert all(o in (k, places[k - 1]) for k, o in enumerate(places) if k)
    assert sum(o != k for k, o in enumerate(places)) == min(max(1, round(amount * (length - 1))), length - 1)


def test_a_frozen_clip_and_a_single_frame() -> None:
    assert origins(clip(), viewed(clip(), "freeze")) == [0] * 16
    assert len(viewed(clip(), "drop")) == len(viewed(clip(), "segment")) == 1


@settings(deadline=None, max_examples=50)
@given(amounts, seeds, lengths)
def test_speed_shrinks_time_and_thins_frames_alike(amount: float, seed: int, length: int) -> None:
    before, after = clip(length), viewed(clip(length), "speed", amount, seed)
    if length == 1:
        assert same(before, after)
        return
    factor = 4**amount
    kept = origins(before, after)
    assert kept[0] == 0 and len(kept) == int(np.ceil(length / factor))
    assert np.allclose(after.times, before.times[kept] / factor)
    assert after.fps == pytest.approx(30 * factor) and after.duration == pytest.approx(before.duration / factor)
    assert np.allclose(after.indices / after.fps, after.times)  # as before: both say when a frame is shown


def test_twice_and_four_times_as_fast() -> None:
    assert origins(clip(8), viewed(clip(8), "speed", 0.5)) == [0, 2, 4, 6]
    assert origins(clip(8), viewed(clip(8), "speed", 1)) == [0, 4]


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_clip_of_one_frame_is_a_picture(name: str) -> None:
    one = clip(1, (40, 30))
    picture = apply_views(Image.fromarray(one.frames[0]), [View(name=name, amount=0.5, seed=4)])
    assert np.array_equal(viewed(one, name, 0.5, 4).frames[0], np.asarray(picture))


@pytest.mark.parametrize("name", sorted(VIEWS.keys() - {"noise"}))
def test_all_frames_get_the_same_box_crop_and_colour(name: str) -> None:
    still = clip(4, (40, 30))
    still = still.with_(frames=still.frames[[0] * 4])
    assert len({frame.tobytes() for frame in viewed(still, name, 0.5, 4).frames}) == 1


def test_noise_is_new_in_every_frame() -> None:
    still = clip(4, (40, 30))
    still = still.with_(frames=still.frames[[0] * 4])
    assert len({frame.tobytes() for frame in viewed(still, "noise", 0.5, 4).frames}) == 4


@settings(deadline=None, max_examples=50)
@given(amounts, seeds)
def test_a_mask_is_one_box_in_all_frames(amount: float, seed: int) -> None:
    black = clip(5, (50, 40))
    black = black.with_(frames=np.zeros_like(black.frames))
    covered = viewed(black, "mask", amount, seed).frames[..., 0] == 250
    assert np.all(covered == covered[0]) and covered[0].mean() == pytest.approx(amount, abs=0.04)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(names, amounts, seeds), max_size=4), lengths)
def test_views_stack_in_order(stack: list[tuple[str, float, int]], length: int) -> None:
    views = [View(name=name, amount=amount, seed=seed) for name, amount, seed in stack]
    one_by_one = clip(length)
    for one in views:
        one_by_one = apply_clip_views(one_by_one, [one])
    assert same(apply_clip_views(clip(length), iter(views)), one_by_one)


def test_the_order_of_views_counts() -> None:
    backwards, first = View(name="reverse"), View(name="segment", amount=0.5, seed=1)
    one = apply_clip_views(clip(), [backwards, first])
    other = apply_clip_views(clip(), [first, backwards])
    assert origins(clip(), one) != origins(clip(), other)
    mask, shuffle = View(name="mask", amount=0.3, seed=2), View(name="shuffle_frames", seed=3)
    assert same(apply_clip_views(clip(), [mask, shuffle]), apply_clip_views(clip(), [shuffle, mask]))


@settings(deadline=None, max_examples=50)
@given(times_only, amounts, seeds)
def test_one_frame_has_no_order_to_lose(name: str, amount: float, seed: int) -> None:
    assert same(viewed(clip(1), name, amount, seed), clip(1))
    none = clip(2).with_(frames=clip(2).frames[:0], times=np.empty(0), indices=np.empty(0, int))
    assert len(viewed(none, name, amount, seed)) == 0


@pytest.mark.parametrize("name", ["shuffle_frames", "shuffle_nearby", "drop", "segment", "freeze"])
def test_other_seed_other_clip(name: str) -> None:
    shown = {tuple(origins(clip(32), viewed(clip(32), name, 0.5, seed))) for seed in range(8)}
    assert len(shown) >= 6


def test_unknown_views_and_amounts_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no view called 'shufle_frames'; did you mean 'shuffle_frames'"):
        viewed(clip(), "shufle_frames")
    with pytest.raises(UserError, match="did you mean 'mask'"):
        viewed(clip(), "maks")
    for amount in (-0.1, 1.1, float("nan")):
        for name in ("reverse", "noise"):
            with pytest.raises(UserError, match="between 0 and 1"):
                viewed(clip(), name, amount)
