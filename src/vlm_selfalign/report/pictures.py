"""Thumbnails inside the page: what the model was shown, views included, or why it cannot be shown.

A clip is a strip: a few of its frames side by side, evenly over its time, the times under them.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.image import load_image
from vlm_selfalign.media.video import load_video

SIDE = 288
"""Longest side of a thumbnail in pixels: twice what the page gives it, for dense screens."""

FRAMES = 6
"""Frames of a strip."""


@dataclass(frozen=True)
class Picture:
    """One picture or clip of a prompt: a data address, or a reason instead; ``views`` in words."""

    address: str = ""
    missing: str = ""
    views: str = ""
    name: str = ""
    small: bool = False
    """Fewer pixels than the page gives it: shown with hard edges rather than blurred."""
    times: tuple[str, ...] = ()
    """Of a clip: when each frame of the strip is shown."""


class Pictures:
    """Makes thumbnails, each once."""

    def __init__(self, side: int = SIDE, frames: int = FRAMES) -> None:
        self.side = side
        self.frames = frames
        self._made: dict[Media, Picture] = {}

    def __call__(self, media: Media) -> Picture:
        """The thumbnail of a picture or the strip of a clip; whatever is wrong with it becomes ``missing``."""
        if media not in self._made:
            self._made[media] = self._make(media)
        return self._made[media]

    def _make(self, media: Media) -> Picture:
        views = ", ".join(f"{view.name} {view.amount:g}" for view in media.views)
        name = printable(media.uri)
        try:
            picture, small, times = (self._clip if media.kind == "video" else self._still)(media)
        except MediaError as error:
            return Picture(missing=error.reason, views=views, name=name)
        except UserError as error:
            return Picture(missing=str(error), views=views, name=name)
        return Picture(_data_address(picture), views=views, name=name, small=small, times=times)

    def _still(self, media: Media) -> tuple[Image.Image, bool, tuple[str, ...]]:
        # Views work on the whole picture; only without them may a JPEG be decoded small.
        picture = load_image(media, draft_pixels=None if media.views else 4 * self.side**2)
        small = max(picture.size) <= self.side // 2
        picture.thumbnail((self.side, self.side))
        return picture, small, ()

    def _clip(self, media: Media) -> tuple[Image.Image, bool, tuple[str, ...]]:
        # Views in time are of all that the model saw: a shuffle of six frames would be another.
        clip = load_video(media) if media.views else load_video(media, frames=self.frames)
        count = min(self.frames, len(clip))
        kept = ((np.arange(count) + 0.5) * len(clip) / count).astype(int)
        frames = [Image.fromarray(clip.frames[place]) for place in kept]
        side = self.side // 2
        small = max(frames[0].size) <= side // 2
        for frame in frames:
            frame.thumbnail((side, side))
        wide, high = frames[0].size
        gap = max(1, wide // 32)
        strip = Image.new("RGB", (len(frames) * (wide + gap) - gap, high), "white")
        for place, frame in enumerate(frames):
            strip.paste(frame, (place * (wide + gap), 0))
        return strip, small, tuple(f"{clip.times[place]:.1f} s" for place in kept)


def _data_address(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=86, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
