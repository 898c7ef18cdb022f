"""Named, seeded degradations of a clip: every view of a picture, and views in time that only a clip can have.

    apply_clip_views(clip, (View(name="mask", amount=0.3), View(name="shuffle_nearby", seed=7)))

A view is a pure function of (clip, amount, seed); ``amount`` 0 gives the clip itself, 1 the most; the clip given is
never changed. Views of a picture treat all frames alike: one box, one crop, one colour.

What happens to the time axis (``times`` and ``indices``, always in order):

================================================  ===============  ===========================================
view                                              frames           time axis
================================================  ===============  ===========================================
``shuffle_frames shuffle_nearby reverse freeze``  the same number  as it was: the model is told an order that
                                                                   the pictures no longer have
``drop segment``                                  fewer            of the frames that are left, true
``speed``                                         fewer            of the frames that are left, compressed
views of a picture                                the same number  as it was, true
================================================  ===============  ===========================================

Fewer frames are fewer tokens. ``total``, and but for ``speed`` also ``fps`` and ``duration``, keep describing the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.media import View
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.views import VIEWS, chance_of, check_amount, new_order

ClipDegradation = Callable[[Clip, float, np.random.Generator], Clip]

CLIP_VIEWS: dict[str, ClipDegradation] = {}

_ANEW = ("noise",)  # drawn for each frame: noise that stood still would be a texture that a model can look past

WINDOW = 4
"""Frames in a window of ``shuffle_nearby``, more or less."""


def clip_view(function: ClipDegradation) -> ClipDegradation:
    """Register a view under its name; it gets a clip of two frames or more, an amount in (0, 1] and a generator."""
    if function.__name__ in VIEWS:
        raise ValueError(f"'{function.__name__}' is a view of a picture already")
    CLIP_VIEWS[function.__name__] = function
    return function


def apply_clip_views(clip: Clip, views: Iterable[View]) -> Clip:
    """The clip through the views, first to last. Raises ``UserError`` on an unknown view or amount.

    One frame has no order to lose: views in time leave it as it is.
    """
    for one in views:
        if one.name not in CLIP_VIEWS and one.name not in VIEWS:
            raise UserError(f"no view called '{one.name}'{nearest(one.name, [*VIEWS, *CLIP_VIEWS])}")
        if check_amount(one) == 0 or len(clip) == 0:
            continue
        if one.name in VIEWS:
            clip = _on_frames(clip, one)
        elif len(clip) > 1:
            clip = CLIP_VIEWS[one.name](clip, one.amount, chance_of(one))
    return clip


@clip_view
def shuffle_frames(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
    """Global shuffle: ``amount`` of the frames (at least two) change places among themselves, anywhere in the clip.

    RRPO (Sarkar et al., 2025) shuffles clips in time to provoke wrong answers about what happened when.
    """
    moved = np.sort(chance.permutation(len(clip))[: _share(amount, len(clip), least=2)])
    order = np.arange(len(clip))
    order[moved] = moved[new_order(len(moved), chance)]
    return clip.with_(frames=clip.frames[order])


@clip_view
def shuffle_nearby(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
    """Local shuffle: in ``amount`` of the windows of about four frames (at least one) the frames change places.

    What happens stays, how it happens goes. With ``mask`` before it this is the best setting of RRPO (Sarkar et al.,
    2025), who do not say how long their windows are; "jumbling" of Schiappa et al. (2023) is the same with 4 and more.
    """
    windows = np.array_split(np.arange(len(clip)), max(1, round(len(clip) / WINDOW)))
    order = np.arange(len(clip))
    for number in chance.permutation(len(windows))[: _share(amount, len(windows), least=1)]:
        order[windows[number]] = windows[number][new_order(len(windows[number]), chance)]
    return clip.with_(frames=clip.frames[order])


@clip_view
def reverse(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
    """Play backwards a stretch of ``amount`` of the frames (at least two) somewhere; at 1 the whole clip.

    The conflicting clips of TempCompass (Liu et al., 2024): the same pictures, the opposite of what happened.
    """
    stretch = _stretch(len(clip), _share(amount, len(clip), least=2), chance)
    order = np.arange(len(clip))
    order[stretch] = order[stretch][::-1]
    return clip.with_(frames=clip.frames[order])


@clip_view
def freeze(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
    """``amount`` of the frames (at least one), drawn at random, show the frame before them; at 1 all show the first.

    "Freezing" of Schiappa et al. (2023), a stream that stalls. At 1 only what one picture tells is left.
    """
    stalled = 1 + chance.permutation(len(clip) - 1)[: _share(amount, len(clip) - 1, least=1)]
    shown = np.arange(len(clip))
    shown[stalled] = 0
    return clip.with_(frames=clip.frames[np.maximum.accumulate(shown)])


@clip_view
def drop(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
    """Leave out ``amount`` of the frames (at least one), drawn at random; at 1 a single frame is left.

    TPO (Li et al., 2025) answers from a clip with most of its frames left out to get its rejected answers.
    """
    count = len(clip) - _share(amount, len(clip), least=1)
    return _only(clip, np.sort(chance.permutation(len(clip))[: max(1, count)]))


@clip_view
def segment(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
    """Crop in time: a stretch somewhere without ``amount`` of the frames (at least one); at 1 a single frame is left.

    TPO (Li et al., 2025) sets answers with and without the right segment against each other.
    """
    count = len(clip) - _share(amount, len(clip), least=1)
    return _only(clip, np.arange(len(clip))[_stretch(len(clip), max(1, count), chance)])


@clip_view
def speed(clip: Clip, amount: float, chance: np.random.Generator) -> Clip:
    """Play 4 ** ``amount`` times as fast, looked at as often as before: twice at .5, four times at 1.

    Every second or fourth frame is left, the first among them; times and duration shrink, the frame rate grows by the
    same factor. TempCompass (Liu et al., 2024) asks for speeds with pairs of such clips.
    """
    factor = 4.0**amount
    kept = (np.arange(int(np.ceil(len(clip) / factor))) * factor).astype(int)
    fast = _only(clip, np.minimum(kept, len(clip) - 1))
    return fast.with_(times=fast.times / factor, fps=clip.fps * factor, duration=clip.duration / factor)


def _on_frames(clip: Clip, one: View) -> Clip:
    """A picture's view on every frame, with the same chance for each unless it is drawn anew."""
    frames = np.empty_like(clip.frames)
    chance = chance_of(one)
    for number, frame in enumerate(clip.frames):
        chance = chance if one.name in _ANEW else chance_of(one)
        frames[number] = np.asarray(VIEWS[one.name](Image.fromarray(frame), one.amount, chance))
    return clip.with_(frames=frames)


def _only(clip: Clip, kept: np.ndarray) -> Clip:
    return clip.with_(frames=clip.frames[kept], times=clip.times[kept], indices=clip.indices[kept])


def _share(amount: float, count: int, least: int) -> int:
    """``amount`` of ``count`` things, but enough for something to happen."""
    return min(max(least, round(amount * count)), count)


def _stretch(count: int, length: int, chance: np.random.Generator) -> slice:
    first = int(chance.integers(count - length + 1))
    return slice(first, first + length)
