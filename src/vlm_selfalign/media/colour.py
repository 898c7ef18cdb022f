"""Any picture mode to 8-bit sRGB as a person would see it: alpha over white, 16 bits scaled, profiles applied."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """A new RGB picture with nothing of the file left on it (no EXIF, no profile, no transparency)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        rgb = _grey(image).convert("RGB")
    else:
        rgb = _over_white(_to_srgb(image))
    rgb.info = {}
    return rgb


def _grey(image: Image.Image) -> Image.Image:
    """Wide grey to 8 bits. Pillow's own ``convert`` clips at 255, which turns such pictures white."""
    wide = np.asarray(image).astype(np.float64)
    finite = np.where(np.isfinite(wide), wide, 0.0)
    low, high = finite.min(), finite.max()
    if image.mode == "F" and low >= 0 and high <= 1:
        scaled = finite * 255
    elif image.mode == "F" and low >= 0 and high <= 255:
        scaled = finite
    elif low >= 0 and high <= 65535 and image.mode != "F":
        scaled = finite / 257
    else:
        scaled = (finite - low) * (255 / max(high - low, 1e-12))
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        scaled = np.where(wide == hidden, 255, scaled)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply the embedded colour profile; a broken profile, or sRGB itself, changes nothing."""
    raw = image.info.get("icc_profile")
    if not raw or image.mode == "LAB":
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        output = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, profile, _SRGB, outputMode=output) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data and image.mode not in ("La", "RGBa"):
        return image.convert("RGB")
    hidden = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(hidden, tuple) and max(hidden) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in hidden)  # 48-bit pictures are read as 24-bit
    flat = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", flat.size, "white"), flat).convert("RGB")
