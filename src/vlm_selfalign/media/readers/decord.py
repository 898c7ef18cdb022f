"""Clips by decord, for the files on which it can be trusted.

decord returns wrong frames without a word on transport streams, AVI, WMV, trimmed files (edit lists) and open GOPs, and
ends with an error on several codecs. So it is never chosen for the user, reads MP4, MOV and MKV with H.264 or HEVC
only, and only where it agrees with the packets on every frame's time. What it does not say is that a frame is
damaged: only signs in the packets mark a clip as degraded.
"""

from __future__ import annotations

import numpy as np

try:
    import decord
except Exception as error:  # a library that does not load raises what it likes
    raise ImportError(
        f"decord ({error}): pip install decord, where there is a wheel for it (Linux and Windows, x86-64)"
    ) from error

from vlm_selfalign.media import shared
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.packets import PacketTable
from vlm_selfalign.media.readers import Request
from vlm_selfalign.media.readers.plan import Plan, planned

UNFIT = "not a file that decord reads rightly: use backend='auto'"

_CONTAINERS = {"mov", "matroska"}
_CODECS = {"h264", "hevc"}


def read(path: str, request: Request) -> Clip:
    """The wanted frames of a clip, by decord.

    Raises:
        MediaError: The file is no clip, is over a limit, cannot be decoded, or is one that decord may read wrongly.
        UserError: The request makes no sense for any clip.
    """
    with planned(path, request) as plan:
        if unfit := _unfit(plan):
            raise MediaError(path, UNFIT, "header", unfit)
        try:
            return plan.clip(_frames(path, plan, min(request.threads, 2)), "decord")
        except MediaError:
            raise
        except Exception as error:  # RuntimeError when opening, decord's own class afterwards
            words = str(error).strip().split("\n")[0][:200]
            raise MediaError(path, "cannot be decoded", "decode", f"decord: {words}") from error


def _frames(path: str, plan: Plan, threads: int) -> np.ndarray:
    """uint8 ``[T, H, W, 3]``. The reader is new and dropped at once: one left alone reads on without end."""
    reader = decord.VideoReader(plan.address, num_threads=threads)
    try:
        if disagreement := _disagreement(reader, plan.table):
            raise MediaError(path, UNFIT, "header", disagreement)
        frames = np.empty(0, np.uint8)
        # One by one: ``get_batch`` holds all frames twice, and is where hangs are on record.
        for place, index in enumerate(plan.chosen.indices.tolist()):
            frame = _array(reader[index])
            if place == 0:
                frames = shared.empty((len(plan.chosen.indices), *frame.shape))
            frames[place] = frame
        return frames
    finally:
        del reader


def _unfit(plan: Plan) -> str:
    """Why decord may return other frames of this clip; nothing if no reason can be seen."""
    table = plan.table
    if not _CONTAINERS & set(plan.container.split(",")) or plan.codec not in _CODECS:
        return f"{plan.codec} in {plan.container}; only h264 and hevc in mp4, mov and mkv"
    if table.hidden:
        return "an edit list or a cut at an open GOP hides frames"
    if table.resets:
        return "the clock is set anew"
    if not table.timed or not table.single:
        return "frames without a time of their own"
    if min(table.stamps) != 0:
        return "the first frame is not shown at 0"
    if _open_gop(table):
        return "open GOP: frames shown before a key frame come after it"
    return ""


def _open_gop(table: PacketTable) -> bool:
    """Whether frames follow a key frame in the file that are shown before it: decord may lose count at such a key."""
    earliest = None
    for packet, stamp in zip(reversed(table.packets), reversed(table.stamps), strict=True):
        if packet.key and earliest is not None and earliest < stamp:
            return True
        earliest = stamp if earliest is None else min(earliest, stamp)
    return False


def _disagreement(reader: decord.VideoReader, table: PacketTable) -> str:
    if len(reader) != len(table):
        return f"decord counts {len(reader)} frames, the packets {len(table)}"
    starts = reader.get_frame_timestamp(np.arange(len(table)))[:, 0]
    if np.abs(starts - table.times).max() > max(0.001, table.tick):
        return "decord has other times for its frames than the packets"
    return ""


def _array(frame: object) -> np.ndarray:
    """A frame as numpy, whatever ``decord.bridge`` the program has set."""
    return frame.asnumpy() if isinstance(frame, decord.nd.NDArray) else np.asarray(frame)
