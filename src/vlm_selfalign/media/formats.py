"""Which decoders may run on a picture's file, and what a file is told that none of them reads."""

from __future__ import annotations

import os

from vlm_selfalign.media.errors import AnyPath, MediaError
from vlm_selfalign.media.files import ByteFile, kind_of

# No EPS (starts Ghostscript), PDF, PSD, FITS, ...: whatever the name says, only these decoders ever run.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

PLAIN_BYTES = 4 * 1024 * 1024
"""The most bytes of a picture written as text (PBM, PGM, PPM of kinds P1 to P3): 1 MB a second is read."""

# JPEG XL is among them although a plug-in for Pillow exists: it decodes all pixels before anyone can count them.
_REFUSED = ("JPEG XL", "SVG", "PDF", "PostScript", "PSD", "FITS")

_READ = ("JPEG", "PNG", "GIF", "WebP", "TIFF", "AVIF", "HEIC")


def formats_of(name: AnyPath, head: bytes) -> tuple[str, ...]:
    """The formats to try on a file, from its first bytes; by name only where a format has no signature (TGA)."""
    if kind_of(head) == "HEIC" and _heif_opens():
        return (*FORMATS, "HEIF")
    return (*FORMATS, "TGA") if os.path.splitext(os.fsdecode(name))[1].lower() == ".tga" else FORMATS


def no_picture(name: AnyPath, head: bytes) -> MediaError:
    """Why none of the formats fits, with what the file seems to be."""
    kind = kind_of(head)
    if kind == "HEIC" and not _heif_opens():
        reason = "HEIC needs an extra: pip install 'vlm-selfalign[heic]', or convert it to PNG or JPEG"
    elif kind in _REFUSED:
        reason = f"{kind} is not read: convert it to PNG or JPEG"
    elif kind in _READ:
        reason = "a broken header"
    else:
        reason = "not a picture" if kind == "unknown" else f"not a picture but {kind}"
    return MediaError(name, reason, "header")


def check_plain(file: ByteFile, name: AnyPath, head: bytes) -> None:
    """Refuse a long picture written as text, which takes minutes to read. Raises ``MediaError``."""
    if head[:2] in (b"P1", b"P2", b"P3") and file.seek(0, os.SEEK_END) > PLAIN_BYTES:
        raise MediaError(name, "too long for a picture written as text", "header", f"at most {PLAIN_BYTES:,} bytes")
    file.seek(0)


def _heif_opens() -> bool:
    """Whether Pillow reads HEIC here: the extra ``heic`` brings the decoder."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
