"""Files of pictures and clips as ``Media``: each is hashed and checked once, for as long as it stays as it is."""

from __future__ import annotations

import os
import stat
import time
from io import BytesIO
from tempfile import NamedTemporaryFile
from typing import Literal

from vlm_selfalign.core.media import Media
from vlm_selfalign.data.cache import Cache
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.files import open_bytes, open_regular
from vlm_selfalign.media.image import header_of
from vlm_selfalign.media.uris import uri_of
from vlm_selfalign.media.video import video_media

SMALL = 1 << 20
"""Bytes."""

Kind = Literal["image", "video"]

SETTLED = 2_000_000_000
"""Nanoseconds: a file that changed later than this ago may change again within one tick of its clock."""


def media_of(path: str, kind: Kind, cache: Cache) -> Media:
    """A file as a picture or clip, hashed and checked up to its header. Raises ``MediaError``.

    What is known of it counts as long as number, size and both times of change of the file stay.
    """
    stamp = _stamp(path)
    if stamp is None:
        return _checked(path, kind)
    what = (kind, path[-4:].lower(), *stamp)  # a few formats are tried by name only
    known = cache.get(*what)
    if known:
        return Media(kind=kind, uri=uri_of(path), content_hash=known.hex())
    if kind == "video" or stamp[1] > SMALL:
        cache.release()
    media = _checked(path, kind)
    cache.put(bytes.fromhex(media.content_hash), *what)
    return media


def media_inside(data: bytes, uri: str, kind: Kind) -> Media:
    """The same of a file that lies inside another, at an address of its own."""
    if kind == "image":
        with open_bytes(data, uri) as file:
            return Media(kind=kind, uri=uri, content_hash=header_of(file, uri).content_hash)
    with NamedTemporaryFile() as file:  # decoders of clips take nothing but files
        file.write(data)
        file.flush()
        try:
            return video_media(file.name).model_copy(update={"uri": uri})
        except MediaError as error:
            raise MediaError(uri, error.reason, error.stage, error.detail) from None


def _checked(path: str, kind: Kind) -> Media:
    if kind == "video":
        return video_media(path)
    with open_regular(path) as file:
        # A header is read in many small pieces: of a small file from memory.
        held = BytesIO(file.read()) if os.fstat(file.fileno()).st_size <= SMALL else file
        return Media(kind=kind, uri=uri_of(path), content_hash=header_of(held, path).content_hash)


def _stamp(path: str) -> tuple[int, ...] | None:
    """Number, size and times of change; None where a change might not show in them."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode) or time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < SETTLED:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
