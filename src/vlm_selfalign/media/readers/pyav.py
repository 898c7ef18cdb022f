"""Clips by PyAV: times from the packets, a jump to the key frame, a check of where it landed, else one straight pass.

The file is opened by descriptor, and the descriptor is the only thing FFmpeg may touch: play lists, references to
other files and addresses have no way out. What decoders conceal is listened for, and marks the clip as degraded.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

try:
    import av
except Exception as error:  # a library that does not load raises what it likes
    raise ImportError(f"PyAV ({error}): pip install av") from error
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vlm_selfalign.media import damage
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.damage import Damage, listening
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.files import kind_of, open_regular
from vlm_selfalign.media.packets import Packet, PacketTable
from vlm_selfalign.media.pixels import RESIZED, Pixels, TooLarge
from vlm_selfalign.media.readers import MAX_BYTES, Request
from vlm_selfalign.media.sampling import EmptySegment, Sample, check_request, sample

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,flv,asf,mpegts,mpeg,mpegvideo,ogg,apng,h264,hevc,ivf,m4v,obu"
"""What a file may be, whatever its name says: nothing that reads a second file."""

# Fewer packets than this are decoded on the way rather than jumped over.
_NEAR = 4
# The leap at which ffmpeg, too, takes the clock of a broadcast as set anew, in seconds.
_LEAPS = {"mpegts": 10.0, "mpeg": 10.0}
UNTIMED = "no times in the file: its stated rate is taken as constant"
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails


def read(path: str, request: Request) -> Clip:
    """The wanted frames of a clip.

    Raises:
        MediaError: The file is no clip, holds no frame that can be decoded, or is over a limit.
        UserError: The request makes no sense for any clip.
    """
    check_request(request)
    with open_regular(path, MAX_BYTES) as file, listening(request.threads) as log:
        try:
            return _read(path, file.fileno(), request, log)
        except TooLarge as error:
            raise MediaError(path, "too many pixels in all", "decode", str(error)) from None
        except EmptySegment as error:
            raise MediaError(path, "the segment lies outside the clip", "header", str(error)) from None
        except (MediaError, MemoryError):
            raise
        except Exception as error:
            raise MediaError(path, "cannot be decoded", "decode", _words(error)) from error


def check(path: str, handle: int, request: Request) -> None:
    """Raise ``MediaError`` unless an open file is a clip with at least one frame; decodes nothing."""
    with listening(request.threads), opened(path, handle, request) as (container, stream):
        try:
            some = any(packet.size for packet in container.demux(stream))
        except Exception as error:
            raise MediaError(path, "no frames", "header", _words(error)) from error
        if not some:
            raise MediaError(path, "no frames", "header")


def table_of(path: str, request: Request) -> PacketTable:
    """When every frame of a clip is shown. Raises ``MediaError``; decodes nothing."""
    with (
        open_regular(path, MAX_BYTES) as file,
        listening(request.threads) as log,
        opened(path, file.fileno(), request) as (container, stream),
    ):
        return scan(path, container, stream, Damage(log, damage.HEADERS))


def _read(path: str, handle: int, request: Request, log: list[damage.Line]) -> Clip:
    scanned = Damage(log, damage.HEADERS)
    with opened(path, handle, request) as (container, stream):
        table = scan(path, container, stream, scanned)
        chosen = sample(table.times, table.last, request)
        signs = scanned.signs()
        heard = Damage(log, damage.MESSAGES)
        pixels = Pixels(len(chosen.indices), request.max_output)
        done = table.single and _by_jumps(_Flow(container, stream, table, heard), table, chosen, pixels)
    if not done or heard.signs():  # a jump may land where a decoder cannot start: only the straight pass can tell
        heard = Damage(log, damage.MESSAGES)
        pixels = Pixels(len(chosen.indices), request.max_output)
        with opened(path, handle, request) as (container, stream):
            _straight(_Flow(container, stream, table, heard), chosen, pixels, heard)
    signs += heard.signs()
    if not pixels.indices:
        raise MediaError(path, "no frame can be decoded", "decode", heard.words)
    return _clip(table, chosen, pixels, signs)


@contextmanager
def opened(path: str, handle: int, request: Request) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The clip behind a descriptor, and its video stream. Raises ``MediaError`` if there is none."""
    os.lseek(handle, 0, os.SEEK_SET)
    options = {"protocol_whitelist": "fd", "format_whitelist": FORMATS, "fd": str(handle)}
    try:
        container = av.open("fd:", options=options, metadata_errors="backslashreplace")
    except Exception as error:  # FFmpeg's errors derive from OSError, ValueError and others, by number
        raise _no_clip(path, handle, error) from error
    with container:  # PyAV leaks descriptors and threads of what is not closed
        stream = _video_stream(path, container, request)
        try:
            yield container, stream
        finally:
            # Freeing a decoder waits for its threads while holding the interpreter's lock, and a thread that is about
            # to report an error waits for that lock. Flushing waits, too, but lets go of the lock.
            stream.codec_context.flush_buffers()


def _video_stream(path: str, container: InputContainer, request: Request) -> VideoStream:
    moving = [stream for stream in container.streams.video if not stream.disposition & _STILL]
    if not moving:
        raise MediaError(path, "no video stream", "header", container.format.name)
    best = container.streams.best("video")
    stream = next((stream for stream in moving if best is not None and stream.index == best.index), moving[0])
    if stream.codec_context is None:
        raise MediaError(path, "no decoder for its codec", "header")
    if stream.width * stream.height > request.max_pixels:
        detail = f"{stream.width} x {stream.height}, at most {request.max_pixels:,}"
        raise MediaError(path, "too many pixels", "header", detail)
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all  # not even read, where the container allows it
    stream.codec_context.thread_type = "AUTO" if request.threads > 1 else "NONE"
    stream.codec_context.thread_count = request.threads
    return stream


def scan(path: str, container: InputContainer, stream: VideoStream, heard: Damage) -> PacketTable:
    """Read through all packets of a clip without decoding one. Raises ``MediaError`` if no frame is shown."""
    packets: list[Packet] = []
    try:
        for p in container.demux(stream):
            if p.size:
                duration = p.duration or 0
                packets.append(Packet(p.pts, p.dts, duration, p.is_keyframe, p.is_discard, p.size))
    except Exception as error:
        heard.note(damage.CUT, _words(error))
    if len(packets) < len(stream.index_entries):
        heard.note(damage.CUT)
    rate = float(stream.guessed_rate or stream.average_rate or 25)
    tick = float(stream.time_base or 1 / 1000)
    table = PacketTable(packets, tick, rate, _LEAPS.get(container.format.name, float("inf")))
    if not len(table):
        raise MediaError(path, "no frames", "header", heard.words)
    return table


class _Flow:
    """Frames in the order shown, each with its place in the clip, from wherever the reading stands."""

    def __init__(self, container: InputContainer, stream: VideoStream, table: PacketTable, heard: Damage) -> None:
        self._container, self._stream, self._table, self._heard = container, stream, table, heard
        self._packets = container.demux(stream)
        self._following = 0
        self.place = -1
        """The packet last given to the decoder."""

    def jump(self, key: int) -> bool:
        """Go on from a key packet; ``False`` if the container does not lead there."""
        wanted = self._table.packets[key]
        second = round(1 / self._table.tick)
        targets = [wanted.pts, wanted.dts, (wanted.dts or 0) - second]
        return any(self._landed(target, key) for target in targets if target is not None)

    def _landed(self, target: int, key: int) -> bool:
        """Seek and skip packets until the key packet is the next one."""
        self._packets = self._container.demux(self._stream)
        try:
            self._container.seek(target, stream=self._stream)
            for packet in self._packets:
                place = self._table.place_of(packet.pts, packet.dts, packet.size)
                if place is None or place > key:
                    return False
                if place == key:
                    self._packets = chain([packet], self._packets)
                    self._following, self.place = 0, key - 1
                    return True
        except Exception:  # not every container can seek
            return False
        return False

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """(index, frame); an index may be left out where a frame cannot be decoded, and never comes back."""
        while (packet := self._next_packet()) is not None:
            self.place += 1
            for frame in self._decoded(packet):
                if frame.is_corrupt:
                    self._heard.note(damage.FRAMES)
                index = self._index(frame)
                if index is not None:
                    self._following = index + 1
                    yield index, frame

    def _next_packet(self) -> av.Packet | None:
        try:
            return next(self._packets, None)
        except Exception as error:
            self._heard.note(damage.CUT, _words(error))
            return None

    def _decoded(self, packet: av.Packet) -> list[VideoFrame]:
        if packet.is_corrupt:
            self._heard.note(damage.PACKETS)
        try:
            return packet.decode()
        except Exception as error:
            self._heard.note(damage.ERRORS, _words(error))
            return []

    def _index(self, frame: VideoFrame) -> int | None:
        """The place of a decoded frame by its time; by counting on where times are missing or claimed twice."""
        table, pts = self._table, frame.pts
        known = table.frame_at.get(pts) if pts is not None else None
        if known and pts not in table.doubled:
            return next((index for index in known if index >= self._following), None)
        if pts is not None and not known and pts in table.hidden:
            return None
        if table.timed and not known:
            self._heard.note(damage.UNTIMED)
        return self._following if self._following < len(table) else None


def _by_jumps(flow: _Flow, table: PacketTable, chosen: Sample, pixels: Pixels) -> bool:
    """Every wanted frame from the key frame before it; ``False`` as soon as one is not where it should be."""
    frames: Iterator[tuple[int, VideoFrame]] = iter(())
    for wanted in chosen.indices.tolist():
        key = table.key_before(wanted)
        if flow.place < 0 or key > flow.place + _NEAR:
            if key < 0 or not flow.jump(key):
                return False
            frames = flow.frames()
        index, frame = next(((i, frame) for i, frame in frames if i >= wanted), (-1, None))
        if frame is None or index != wanted:
            return False
        pixels.add(wanted, frame)
    return True


def _straight(flow: _Flow, chosen: Sample, pixels: Pixels, heard: Damage) -> None:
    """Every wanted frame on one way through the clip; for one that never comes the nearer neighbour, if not shown."""
    missing = deque(chosen.indices.tolist())
    others = set(missing)
    before: tuple[int, VideoFrame] | None = None
    for now in chain(flow.frames(), [None]):
        while missing and (now is None or missing[0] < now[0]):
            _replace(missing.popleft(), [near for near in (before, now) if near], others, pixels, heard)
        if now is None or not missing:
            return
        if missing[0] == now[0]:
            pixels.add(missing.popleft(), now[1])
        before = now


def _replace(wanted: int, near: list[tuple[int, VideoFrame]], others: set[int], pixels: Pixels, heard: Damage) -> None:
    index, frame = min(near, key=lambda pair: abs(pair[0] - wanted), default=(-1, None))
    if frame is None or index in others:
        heard.note(damage.MISSING)
        return
    heard.note(damage.REPLACED)
    others.add(index)
    pixels.add(index, frame)


def _clip(table: PacketTable, chosen: Sample, pixels: Pixels, signs: Counter[str]) -> Clip:
    indices = np.array(pixels.indices, np.int64)
    reasons = [*sorted(signs), *chosen.reasons, *[RESIZED] * pixels.resized, *[UNTIMED] * (not table.timed)]
    return Clip(
        frames=pixels.frames(),
        times=table.times[indices],
        indices=indices,
        fps=table.average_rate,
        total=len(table),
        duration=table.duration,
        quality="degraded" if signs else "ok",
        reasons=tuple(reasons),
        backend="pyav",
    )


def _no_clip(path: str, handle: int, error: Exception) -> MediaError:
    os.lseek(handle, 0, os.SEEK_SET)
    kind = kind_of(os.read(handle, 256))
    if kind.endswith("video"):
        return MediaError(path, "a broken header", "header", _words(error))
    return MediaError(path, "not a clip" if kind == "unknown" else f"not a clip but {kind}", "header", _words(error))


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]
