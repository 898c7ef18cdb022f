"""Opening pictures and clips, and the views of them: everything is right, or refused with one reason.

    from vlm_selfalign.media import load_image, load_video

    picture = load_image("photos/cat.jpg")            # upright 8-bit RGB
    clip = load_video("clips/cat.mp4", frames=16)     # clip.frames [T, H, W, 3], clip.times in seconds

Names are loaded when first used, so that nothing is paid for what is not opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Clip": "clip",
    "Limits": "isolation",
    "MediaError": "errors",
    "image_media": "image",
    "load_image": "image",
    "load_video": "video",
    "video_media": "video",
}

__all__ = ["Clip", "Limits", "MediaError", "image_media", "load_image", "load_video", "video_media"]

if TYPE_CHECKING:
    from vlm_selfalign.media.clip import Clip as Clip
    from vlm_selfalign.media.errors import MediaError as MediaError
    from vlm_selfalign.media.image import image_media as image_media
    from vlm_selfalign.media.image import load_image as load_image
    from vlm_selfalign.media.isolation import Limits as Limits
    from vlm_selfalign.media.video import load_video as load_video
    from vlm_selfalign.media.video import video_media as video_media


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"vlm_selfalign.media has no '{name}'")
    return getattr(importlib.import_module(f"vlm_selfalign.media.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
