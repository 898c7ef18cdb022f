"""Load frames of a clip as upright RGB with their true times, or say in one reason why not.

    clip = load_video("clips/cat.mp4", frames=16)
    clip = load_video(Media(kind="video", uri="cat.mp4", content_hash=..., start=2.0, end=7.5), fps=2, max_frames=64)
    processor(text=..., videos=[clip.frames], video_metadata=[clip.metadata], do_sample_frames=False)

Frames are taken by time, not by index: an even share of the time each, whatever the rate does. The decoder runs in a
child process that is killed when it is late or eats too much memory. A clip with signs of damage is refused, or on
request marked: wrong frames would poison what is learnt from them, and a skipped clip does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from tempfile import NamedTemporaryFile
from typing import Any, Literal

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.clip_views import apply_clip_views
from vlm_selfalign.media.errors import AnyPath, MediaError
from vlm_selfalign.media.files import hash_of, open_regular
from vlm_selfalign.media.isolation import Limits, isolated
from vlm_selfalign.media.readers import MAX_BYTES, Policy, Request, reader_of
from vlm_selfalign.media.sampling import EmptySegment, check_request, sample
from vlm_selfalign.media.uris import opener_of, path_of, scheme_of, uri_of

LIMITS = Limits(seconds=120.0, memory=2 << 30)
"""What decoding one clip may take: a straight pass through ten minutes of 1080p takes 45 s on two cores."""

THREADS = 8
"""The most decoding threads of one clip."""

OnDamage = Literal["refuse", "keep"]


def load_video(
    source: Media | AnyPath,
    *,
    frames: int | None = None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    policy: Policy = "middle",
    backend: str = "auto",
    max_frames: int | None = None,
    on_damage: OnDamage = "refuse",
    isolate: bool = True,
    limits: Limits = LIMITS,
) -> Clip:
    """Frames of a clip with their times, through the views of its ``Media``.

    Args:
        source: A ``Media`` of kind video, an address (``world:7``), or a path.
        frames: How many, evenly over the time; 16 if ``fps`` is not given either. A shorter clip gives fewer, none
            twice, and says so in ``reasons``.
        fps: Instead: how many a second.
        start: Seconds after the first frame; goes before the segment of a ``Media``.
        end: The same.
        policy: ``middle`` of each share of the time, its ``left`` end, or stretched to both ``ends``.
        backend: ``auto`` (PyAV), ``pyav``, ``decord``, ``torchcodec``, or ``torchcodec:cuda`` to decode there.
        max_frames: Never more; a longer clip is sampled more thinly, and says so.
        on_damage: ``refuse`` a clip with signs of damage, or ``keep`` it with quality ``degraded`` and the reasons.
        isolate: Decode in a child process. Without, nothing limits what a broken file costs.
        limits: What that process may take.

    Raises:
        MediaError: Whatever is wrong with the file; nothing else escapes on its account. A file whose content is
            no longer what the ``Media`` was made from is refused as changed.
        UserError: A request no clip could meet, a backend that is not there, a view that does not exist.
    """
    if frames is None and fps is None:
        frames = 16
    media = source if isinstance(source, Media) else None
    if media is not None:
        start, end = media.start if start is None else start, media.end if end is None else end
    request = Request(frames=frames, fps=fps, max_frames=max_frames, start=start, end=end, policy=policy)
    check_request(request)
    if on_damage not in ("refuse", "keep"):
        raise UserError(f"on_damage='{on_damage}': must be refuse or keep")
    clip = _load(source, request, _caller(backend, isolate, limits))
    if clip.quality != "ok" and on_damage == "refuse":
        raise MediaError(_name(source), f"damaged: {clip.reasons[0]}", "decode", "; ".join(clip.reasons[1:]))
    return apply_clip_views(clip, media.views) if media is not None and media.views else clip


def video_media(path: str, *, isolate: bool = True) -> Media:
    """The ``Media`` of a clip's file, hashed and checked up to its first frame, undecoded. Raises ``MediaError``.

    What was found is remembered as long as size and time of change stay, so that listing again costs little.
    """
    content_hash = _hash_of(path)
    _checked(path, content_hash, isolate)
    return Media(kind="video", uri=uri_of(path), content_hash=content_hash)


def check_video(path: str) -> None:
    """Raise ``MediaError`` unless a file is a clip with a video stream and a frame in it; decodes nothing."""
    reader_of("pyav")  # says what is missing where it is
    from vlm_selfalign.media.readers.pyav import check

    with open_regular(path, MAX_BYTES) as file:
        check(path, file.fileno(), Request())


Call = Callable[[str, Request], Clip]


def _caller(backend: str, isolate: bool, limits: Limits) -> Call:
    """The reader of a backend, in a process of its own with threads of its own, or here with this one."""
    reader = reader_of(backend)
    if not isolate:
        return reader
    threads = min(THREADS, _cores())
    return lambda path, request: isolated(reader, path, replace(request, threads=threads), limits=limits)


def _load(source: Media | AnyPath, request: Request, call: Call) -> Clip:
    if isinstance(source, Media):
        if source.kind != "video":
            raise MediaError(source.uri, "a picture, not a clip", "open")
        uri, content_hash = source.uri, source.content_hash
    else:
        uri, content_hash = os.fsdecode(source), ""
    scheme = scheme_of(uri) if isinstance(source, Media | str) else ""
    if scheme and scheme != "file":
        return _from_address(uri, scheme, request, call)
    path = path_of(uri) if isinstance(source, Media | str) else uri
    # Only hashes of our own length can be compared; others are some other name for the content.
    if len(content_hash) == 32 and _hash_of(path) != content_hash:
        raise MediaError(path, "changed since it was listed", "open")
    return call(path, request)


def _from_address(uri: str, scheme: str, request: Request, call: Call) -> Clip:
    """A clip that a source draws, or keeps as the bytes of a file."""
    try:
        found: Any = opener_of(uri, scheme)(uri)
    except (OSError, ValueError, LookupError) as error:
        raise MediaError(uri, "cannot be opened", "open", f"{type(error).__name__}: {error}") from error
    if isinstance(found, Clip):
        return _chosen(found, uri, request)
    if not isinstance(found, bytes):
        raise MediaError(uri, "a picture, not a clip", "open")
    with NamedTemporaryFile() as file:
        file.write(found)
        file.flush()
        try:
            return call(file.name, request)
        except MediaError as error:
            raise MediaError(uri, str(error.args[0]), error.stage, error.detail) from None


def _chosen(clip: Clip, uri: str, request: Request) -> Clip:
    """The wanted frames of a clip that has all of them."""
    try:
        taken = sample(clip.times, clip.duration - float(clip.times[-1]), request)
    except EmptySegment as error:
        raise MediaError(uri, "the segment lies outside the clip", "header", str(error)) from None
    return clip.with_(
        frames=clip.frames[taken.indices],
        times=clip.times[taken.indices],
        indices=clip.indices[taken.indices],
        reasons=(*clip.reasons, *taken.reasons),
    )


def _hash_of(path: str) -> str:
    try:
        status = os.stat(path)
        settled = time.time_ns() - status.st_mtime_ns > 2_000_000_000  # a younger file may change within one tick
    except (OSError, ValueError):
        settled = False
    if not settled:
        return _hash_now(path)
    return _known_hash(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _known_hash(path: str, inode: int, size: int, changed: int) -> str:
    return _hash_now(path)


def _hash_now(path: str) -> str:
    with open_regular(path, MAX_BYTES) as file:
        return hash_of(file)


@lru_cache(maxsize=100_000)
def _checked(path: str, content_hash: str, isolate: bool) -> None:
    isolated(check_video, path, limits=LIMITS) if isolate else check_video(path)


def _name(source: Media | AnyPath) -> AnyPath:
    return source.uri if isinstance(source, Media) else source


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
