"""Load a picture from anywhere as RGB, upright, or say in one reason why not.

    picture = load_image("photos/cat.jpg")
    picture = load_image(Media(kind="image", uri="world:7", content_hash=...).viewed("noise", 0.5))

A file is opened by descriptor and must be a regular file; its size in bytes and pixels is checked before anything
is decoded; only formats with small decoders are tried. A cut picture is refused, never half shown, and a corrupt one
wherever its format can tell: PNG has check sums, JPEG has none, and a few changed bytes inside its pixels pass. Of an
animation the first frame is shown; as a clip it has all of them.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, cast

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from vlm_selfalign.core.media import Media
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.colour import to_rgb
from vlm_selfalign.media.errors import AnyPath, MediaError
from vlm_selfalign.media.files import MAX_BYTES, ByteFile, HeaderReader, hash_of, open_bytes, open_regular
from vlm_selfalign.media.formats import check_plain, formats_of, no_picture
from vlm_selfalign.media.integrity import check
from vlm_selfalign.media.uris import opener_of, path_of, scheme_of, uri_of
from vlm_selfalign.media.views import apply_views

MAX_PIXELS = 80_000_000
"""The most pixels a picture may have; Pillow alone would spend 1.8 GB on one just under its own limit."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """What a picture's file is without decoding it: identity, format and size in pixels as stored."""

    content_hash: str
    format: str
    width: int
    height: int


def load_image(
    source: Media | AnyPath,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    draft_pixels: int | None = None,
) -> Image.Image:
    """A picture as upright 8-bit RGB, through the views of its ``Media``.

    Args:
        source: A ``Media`` of kind image, an address (``world:7``), or a path.
        max_pixels: Refuse more pixels than this, from the header.
        max_bytes: Refuse a longer file.
        draft_pixels: The caller needs about this many pixels: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its
            sides, never below this. Other formats come whole.

    Raises:
        MediaError: Whatever is wrong with the file; nothing else escapes on its account. A file whose content is
            no longer what the ``Media`` was made from is refused as changed.
        UserError: A view that does not exist.
    """
    if not isinstance(source, Media):
        return _load(source, "", max_pixels, max_bytes, draft_pixels)
    if source.kind != "image":
        raise MediaError(source.uri, "a clip, not a picture", "open")
    picture = _load(source.uri, source.content_hash, max_pixels, max_bytes, draft_pixels)
    return apply_views(picture, source.views)


def header_of(file: ByteFile, name: AnyPath, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Hash an open file and read its header; ``name`` is for messages. Raises ``MediaError``."""
    with _opened(file, name, max_pixels) as image:  # first, since a bomb costs less to refuse than to hash
        kind, size = image.format or "", image.size
    return Header(hash_of(file), kind, *size)


def image_media(path: str) -> Media:
    """The ``Media`` of a picture file, hashed and checked up to its header. Raises ``MediaError``.

    What was found is remembered as long as size and time of change stay, so that listing again costs little.
    """
    try:
        status = os.stat(path)
        settled = time.time_ns() - status.st_mtime_ns > 2_000_000_000  # a younger file may change within one tick
    except (OSError, ValueError):
        settled = False
    if not settled:
        return Media(kind="image", uri=uri_of(path), content_hash=_content_hash(path))
    known = _known_hash(path, status.st_ino, status.st_size, status.st_mtime_ns)
    return Media(kind="image", uri=uri_of(path), content_hash=known)


@lru_cache(maxsize=100_000)
def _known_hash(path: str, inode: int, size: int, changed: int) -> str:
    return _content_hash(path)


def _content_hash(path: str) -> str:
    with open_regular(path) as file:
        return header_of(file, path).content_hash


def decode(
    file: ByteFile, name: AnyPath, *, max_pixels: int = MAX_PIXELS, draft_pixels: int | None = None
) -> Image.Image:
    """The picture in an open file or ``BytesIO``; ``name`` is for messages. Raises ``MediaError``."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # true for the whole process, whoever set it
        warnings.warn("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set: cut pictures pass as whole ones", stacklevel=2)
    with _opened(file, name, max_pixels) as image:
        if draft_pixels and draft_pixels < image.width * image.height:
            shrink = (draft_pixels / (image.width * image.height)) ** 0.5
            image.draft(None, (max(1, round(image.width * shrink)), max(1, round(image.height * shrink))))
        try:
            check(file, image.format)
            image.load()
            return to_rgb(_upright(image))
        except Exception as error:
            # Decoders raise what they like: OSError, SyntaxError, struct.error, IndexError, MemoryError, ...
            cut = "truncated" in str(error)
            raise MediaError(name, "a cut file" if cut else "cannot be decoded", "decode", _words(error)) from error


def _load(source: AnyPath, content_hash: str, max_pixels: int, max_bytes: int, draft_pixels: int | None) -> Image.Image:
    scheme = scheme_of(source) if isinstance(source, str) else ""
    found = _from_address(str(source), scheme) if scheme and scheme != "file" else None
    if isinstance(found, Image.Image):
        return found
    path = path_of(source) if isinstance(source, str) else source
    with open_regular(path, max_bytes) if found is None else open_bytes(found, path, max_bytes) as file:
        # Only hashes of our own length can be compared; others are some other name for the content.
        if len(content_hash) == 32 and hash_of(file) != content_hash:
            raise MediaError(path, "changed since it was listed", "open")
        return decode(file, path, max_pixels=max_pixels, draft_pixels=draft_pixels)


def _from_address(uri: str, scheme: str) -> Image.Image | bytes:
    try:
        found = opener_of(uri, scheme)(uri)
    except (OSError, ValueError, LookupError) as error:
        raise MediaError(uri, "cannot be opened", "open", _words(error)) from error
    if isinstance(found, Clip):
        raise MediaError(uri, "a clip, not a picture", "open")
    return found if isinstance(found, bytes) else to_rgb(found)


def _opened(file: ByteFile, name: AnyPath, max_pixels: int) -> Image.Image:
    """The header only. Pillow opens lazily: nothing is decoded before the pixels are counted."""
    file.seek(0)
    head = file.read(256)
    check_plain(file, name, head)
    reader = HeaderReader(file, name)
    try:
        image = Image.open(cast(IO[bytes], reader), formats=formats_of(name, head))
    except UnidentifiedImageError:
        raise no_picture(name, head) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(name, "too many pixels", "header", _words(error)) from None
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(name, "a broken header", "header", _words(error)) from error
    if not 0 < image.width * image.height <= max_pixels:
        image.close()
        raise MediaError(name, "too many pixels", "header", f"{image.width} x {image.height}, at most {max_pixels:,}")
    reader.lift()
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a malformed EXIF block says nothing about the picture
        return image
    return image if turn is None else image.transpose(turn)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]
