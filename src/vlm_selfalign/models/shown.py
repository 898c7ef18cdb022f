"""Pictures and clips as a model is shown them: decoded once, no larger than allowed, kept while memory allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock

import numpy as np
from PIL import Image

from vlm_selfalign.config import MediaSettings
from vlm_selfalign.core.media import Media
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image
from vlm_selfalign.media.video import load_video

Shown = Image.Image | Clip

FEWEST_FRAMES = 4
"""Shrinking leaves a clip that many frames; after that they get smaller."""
FEWEST_PIXELS = 28 * 28


class Kept:
    """What was made, by key, for all threads; the longest unused leaves first once all of it fills ``limit`` bytes.

    What two threads want at once is made once. A file found to be broken is remembered as that.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Bytes held now."""
        self._known: OrderedDict[Hashable, Shown | MediaError] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Shown]) -> Shown:
        """What is kept under the key, or made now. Raises what ``make`` raises."""
        with self._lock:
            found = self._used(key)
            making = self._making.setdefault(key, Lock()) if found is None else None
        if making is not None:
            with making:
                found = self._made(key, make)
        if isinstance(found, MediaError):
            raise found.with_traceback(None)
        assert found is not None
        return found

    def _used(self, key: Hashable) -> Shown | MediaError | None:
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def _made(self, key: Hashable, make: Callable[[], Shown]) -> Shown | MediaError:
        with self._lock:
            found = self._used(key)
        try:
            if found is None:
                found = _or_fault(make)
                self._keep(key, found)
        finally:
            with self._lock:
                self._making.pop(key, None)
        return found

    def _keep(self, key: Hashable, found: Shown | MediaError) -> None:
        with self._lock:
            self._known[key] = found
            self.size += _bytes(found)
            while self.size > self.limit:
                self.size -= _bytes(self._known.popitem(last=False)[1])


KEPT = Kept(0)
"""Of the whole process, since roles and versions of roles are shown the same; as large as the largest asked for."""


def load_shown(media: Media, settings: MediaSettings, kept: Kept = KEPT) -> Shown:
    """A picture or clip as the settings say, its views applied. Raises ``MediaError``."""
    kept.limit = max(kept.limit, settings.cache_mb << 20)
    how = settings.model_dump(exclude={"cache_mb", "max_visual_tokens", "shrink"})
    # A hash of another length than ours names a content but does not prove it
    name = "" if len(media.content_hash) == 32 else media.uri
    return kept.get((media.content(), name, *how.values()), lambda: _load(media, settings))


def at_most(shown: Shown, pixels: int | None) -> Shown:
    """The same with at most so many pixels a picture or frame, its shape kept."""
    width, height = _size(shown)
    if pixels is None or width * height <= pixels:
        return shown
    shrink = (pixels / (width * height)) ** 0.5
    size = (max(1, int(width * shrink)), max(1, int(height * shrink)))
    if isinstance(shown, Image.Image):
        return shown.resize(size, Image.Resampling.BICUBIC)
    frames = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in shown.frames]
    return shown.with_(frames=np.stack(frames))


def thinned(clip: Clip, count: int) -> Clip:
    """``count`` of a clip's frames, from the middle of even shares, with their true times."""
    taken = ((np.arange(count) + 0.5) / count * len(clip)).astype(np.int64)
    return clip.with_(frames=clip.frames[taken], times=clip.times[taken], indices=clip.indices[taken])


def less(shown: Sequence[Shown], share: float) -> list[Shown]:
    """About this share of what is shown: fewer frames while a clip has more than a few, then fewer pixels."""
    if any(isinstance(one, Clip) and len(one) > FEWEST_FRAMES for one in shown):
        return [_fewer(one, share) for one in shown]
    return [at_most(one, max(FEWEST_PIXELS, int(share * one_pixels))) for one, one_pixels in _with_pixels(shown)]


def _load(media: Media, settings: MediaSettings) -> Shown:
    if media.kind == "image":
        return at_most(load_image(media, draft_pixels=settings.max_pixels), settings.max_pixels)
    clip = load_video(
        media,
        frames=settings.frames,
        fps=settings.fps,
        max_frames=settings.max_frames if settings.fps else None,
        policy=settings.policy,
        backend=settings.backend,
        on_damage=settings.on_damage,
    )
    return at_most(clip, settings.max_pixels)


def _or_fault(make: Callable[[], Shown]) -> Shown | MediaError:
    try:
        return make()
    except MediaError as error:
        if error.stage == "open":  # costs nothing to try again, and the file may be there by then
            raise
        return error


def _fewer(shown: Shown, share: float) -> Shown:
    if not isinstance(shown, Clip) or len(shown) <= FEWEST_FRAMES:
        return shown
    return thinned(shown, max(FEWEST_FRAMES, min(len(shown) - 1, int(share * len(shown)))))


def _with_pixels(shown: Sequence[Shown]) -> list[tuple[Shown, int]]:
    return [(one, _size(one)[0] * _size(one)[1]) for one in shown]


def _size(shown: Shown) -> tuple[int, int]:
    return shown.size if isinstance(shown, Image.Image) else (shown.frames.shape[2], shown.frames.shape[1])


def _bytes(found: Shown | MediaError) -> int:
    if isinstance(found, MediaError):
        return 1000
    return found.frames.nbytes if isinstance(found, Clip) else found.width * found.height * 3
