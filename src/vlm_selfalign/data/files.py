"""Files of pictures and clips as ``Media``: each is hashed and checked once, for as long as it stays as it is."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from tempfile import NamedTemporaryFile
from typing import Literal

from vlm_selfalign.core.media import Media
from vlm_selfalign.data.cache import Cache
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.files import open_bytes, open_regular
from vlm_selfalign.media.image import header_of
from vlm_selfalign.media.isolation import Limits, isolated
from vlm_selfalign.media.uris import uri_of
from vlm_selfalign.media.video import video_media

SMALL = 1 << 20
"""Bytes."""

Kind = Literal["image", "video"]

_What = tuple[Kind, str, int, int, int, int]

MANY = 2000
"""Files from which on several processes look at them."""

CHUNK = 250
"""Files that a process looks at before it answers."""

PATIENCE = Limits(seconds=600)
"""For a chunk: a disk at the end of a network is slow."""

SETTLED = 2_000_000_000
"""Nanoseconds: a file that changed later than this ago may change again within one tick of its clock."""


def media_of(path: str, kind: Kind, cache: Cache) -> Media:
    """A file as a picture or clip, hashed and checked up to its header. Raises ``MediaError``.

    What is known of it counts as long as number, size and both times of change of the file stay.
    """
    what = _what(path, kind)
    if what is None:
        return _checked(path, kind)
    if known := _known(path, what, cache):
        return known
    if kind == "video" or os.path.getsize(path) > SMALL:
        cache.release()
    media = _checked(path, kind)
    cache.put(bytes.fromhex(media.content_hash), *what)
    return media


def media_by_name(path: str, kinds: Mapping[str, Kind], cache: Cache) -> Media:
    """A file as what its ending says or, where its first bytes say otherwise, as that. Raises ``MediaError``."""
    kind = _named(path, kinds)
    try:
        return media_of(path, kind, cache)
    except MediaError as error:
        seems = error.reason.partition(" but ")[2]  # "not a picture but AVI video", "not a clip but JPEG"
        other: Kind = "video" if seems.endswith(" video") else "image"
        if not seems or other == kind or other not in kinds.values():
            raise
        try:
            return media_of(path, other, cache)
        except MediaError:
            raise error from None


def media_of_each(paths: Sequence[str], kinds: Mapping[str, Kind], cache: Cache) -> Iterator[Media | MediaError]:
    """``media_by_name`` of all, in their order; what is not known yet of many, several processes find out."""
    for path, known in _ahead(paths, kinds, cache) if len(paths) >= MANY else ((path, None) for path in paths):
        try:
            yield known or media_by_name(path, kinds, cache)
        except MediaError as error:
            yield error


def _ahead(paths: Sequence[str], kinds: Mapping[str, Kind], cache: Cache) -> Iterator[tuple[str, Media | None]]:
    """Each path with what was known of it; what was not is in the cache by then, unless something is wrong with it."""
    workers = os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)  # its threads only wait for processes
    waiting: deque[tuple[list[tuple[str, Media | None]], Future[dict[bytes, bytes]]]] = deque()
    try:
        for start in range(0, len(paths), CHUNK):
            chunk = [
                (path, _known(path, _what(path, _named(path, kinds)), cache)) for path in paths[start : start + CHUNK]
            ]
            unknown = [path for path, known in chunk if known is None]
            waiting.append((chunk, pool.submit(_apart, unknown, kinds)))
            while len(waiting) > 2 * workers or (waiting and start + CHUNK >= len(paths)):
                chunk, found = waiting.popleft()
                cache.learn(found.result())
                yield from chunk
    finally:
        pool.shutdown(cancel_futures=True)


def _apart(paths: list[str], kinds: Mapping[str, Kind]) -> dict[bytes, bytes]:
    """What a process of its own finds out; nothing where it cannot: then it is asked again here, file by file."""
    try:
        return isolated(found_out, paths, dict(kinds), limits=PATIENCE) if paths else {}
    except MediaError:
        return {}


def found_out(paths: Sequence[str], kinds: Mapping[str, Kind]) -> dict[bytes, bytes]:
    """What there is to know of files that are what they seem."""
    with Cache(None) as cache:
        for path in paths:
            with suppress(MediaError):  # met again, with its reason, when it is its turn
                media_by_name(path, kinds, cache)
        return cache.fresh


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


def _known(path: str, what: _What | None, cache: Cache) -> Media | None:
    value = cache.get(*what) if what else None
    return Media(kind=what[0], uri=uri_of(path), content_hash=value.hex()) if what and value else None


def _named(path: str, kinds: Mapping[str, Kind]) -> Kind:
    return kinds[os.path.splitext(path)[1].lower()]


def _what(path: str, kind: Kind) -> _What | None:
    """Kind, ending, number, size and times of change; None where a change might not show in them."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode) or time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < SETTLED:
        return None
    # A few formats are tried by name only.
    return kind, path[-4:].lower(), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
