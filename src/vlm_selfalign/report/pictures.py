"""Thumbnails inside the page: what the model was shown, views included, or why it cannot be shown."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.image import load_image

SIDE = 288
"""Longest side of a thumbnail in pixels: twice what the page gives it, for dense screens."""


@dataclass(frozen=True)
class Picture:
    """One picture of a prompt: a data address, or a reason instead; ``views`` in words."""

    address: str = ""
    missing: str = ""
    views: str = ""
    name: str = ""
    small: bool = False
    """Fewer pixels than the page gives it: shown with hard edges rather than blurred."""


class Pictures:
    """Makes thumbnails, each once."""

    def __init__(self, side: int = SIDE) -> None:
        self.side = side
        self._made: dict[Media, Picture] = {}

    def __call__(self, media: Media) -> Picture:
        """The thumbnail of a picture; whatever is wrong with it becomes ``missing``."""
        if media not in self._made:
            self._made[media] = self._make(media)
        return self._made[media]

    def _make(self, media: Media) -> Picture:
        views = ", ".join(f"{view.name} {view.amount:g}" for view in media.views)
        name = printable(media.uri)
        try:
            # Views work on the whole picture; only without them may a JPEG be decoded small.
            picture = load_image(media, draft_pixels=None if media.views else 4 * self.side**2)
        except MediaError as error:
            return Picture(missing=error.reason, views=views, name=name)
        except UserError as error:
            return Picture(missing=str(error), views=views, name=name)
        small = max(picture.size) <= self.side // 2
        picture.thumbnail((self.side, self.side))
        return Picture(address=_data_address(picture), views=views, name=name, small=small)


def _data_address(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=86, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
