"""Any picture mode to 8-bit sRGB as a person would see it: alpha over white, 16 bits scaled, profiles applied."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_BAND = 256  # rows worked on at once: whole pictures in floating point would take gigabytes


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
    wide = np.asarray(image)
    low, factor = _range(wide)
    hidden = image.info.get("transparency")
    grey = np.empty(wide.shape, np.uint8)
    for rows in _bands(wide):
        scaled = np.rint((_finite(wide[rows]) - low) * factor)
        grey[rows] = np.where(wide[rows] == hidden, 255, scaled) if isinstance(hidden, int) else scaled
    return Image.fromarray(grey)


def _range(wide: np.ndarray) -> tuple[float, float]:
    """What is black, and how much brighter 1 more is: 16 bits and usual float ranges as meant, others stretched."""
    if wide.dtype.itemsize == 2:
        return 0.0, 1 / 257
    ends = np.array([(band.min(), band.max()) for band in map(_finite, (wide[rows] for rows in _bands(wide)))])
    low, high = float(ends.min()), float(ends.max())
    usual = (1, 255) if wide.dtype.kind == "f" else (65535,)
    if low >= 0 and high <= usual[-1]:
        return 0.0, 255 / next(top for top in usual if high <= top)
    return low, 255 / max(high - low, 1e-12)


def _finite(band: np.ndarray) -> np.ndarray:
    return np.nan_to_num(band.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _bands(wide: np.ndarray) -> Iterator[slice]:
    return (slice(top, top + _BAND) for top in range(0, len(wide), _BAND))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply the embedded colour profile; a broken profile, or sRGB itself, changes nothing."""
    raw = image.info.get("icc_profile")
    if not raw or image.mode == "LAB":
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        if _is_srgb(ImageCms.getProfileDescription(profile)):
            return image
        output = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, profile, _SRGB, outputMode=output) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _is_srgb(description: str) -> bool:
    """By its name, which spares most pictures a conversion; there are linear-light profiles of that name too."""
    name = description.strip().lower()
    return name.startswith("srgb") and "linear" not in name


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data and image.mode not in ("La", "RGBa"):
        return image.convert("RGB")
    hidden = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(hidden, tuple) and max(hidden) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in hidden)  # 48-bit pictures are read as 24-bit
    if image.mode == "La":
        image = image.convert("LA")  # the only way on from grey that is multiplied by its alpha
    ink = image if image.mode == "RGBA" else image.convert("RGBA")
    paper = Image.new("RGB", ink.size, "white")
    paper.paste(ink, mask=ink)
    return paper
