"""Clips by torchcodec in its exact mode; also the way to decode on a GPU.

It needs the FFmpeg libraries, version 4 to 9, where the system finds them, and is built for one minor version of
torch. Every frame comes with its time, which must be the one the packets give; what does not match is refused. What it
does not say is that a frame is damaged: only signs in the packets mark a clip as degraded.
"""

from __future__ import annotations

import numpy as np

try:
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
except Exception as error:  # RuntimeError without FFmpeg, OSError with another torch
    words = str(error).strip().split("\n")[0][:200]
    raise ImportError(
        f"torchcodec ({words}): pip install 'vlm-selfalign[torchcodec]' and FFmpeg (apt install ffmpeg)"
    ) from error

from vlm_selfalign.media import shared
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.readers import Request
from vlm_selfalign.media.readers.plan import Plan, planned

OTHER = "torchcodec returns other frames than the file has: use backend='auto'"


def read(path: str, request: Request, device: str = "cpu") -> Clip:
    """The wanted frames of a clip, by torchcodec.

    Args:
        path: The file.
        request: What is wanted of it.
        device: Where it is decoded, as torch names it; the frames end up in main memory either way.

    Raises:
        MediaError: The file is no clip, is over a limit, cannot be decoded, or has other frames by its packets.
        UserError: The request makes no sense for any clip.
    """
    with planned(path, request) as plan:
        try:
            return plan.clip(_frames(path, plan, request.threads, device), "torchcodec")
        except MediaError:
            raise
        except Exception as error:  # RuntimeError, ValueError, IndexError
            words = str(error).strip().split("\n")[0][:200]
            raise MediaError(path, "cannot be decoded", "decode", f"torchcodec: {words}") from error


def _frames(path: str, plan: Plan, threads: int, device: str) -> np.ndarray:
    """uint8 ``[T, H, W, 3]``."""
    decoder = VideoDecoder(
        plan.address, dimension_order="NHWC", num_ffmpeg_threads=threads, device=device, seek_mode="exact"
    )
    if len(decoder) != len(plan.table):
        raise MediaError(path, OTHER, "decode", f"it counts {len(decoder)} frames, the packets {len(plan.table)}")
    first = float(decoder.get_frame_at(0).pts_seconds)
    frames = np.empty(0, np.uint8)
    for place, index in enumerate(plan.chosen.indices.tolist()):
        frame = decoder.get_frame_at(index)
        late = frame.pts_seconds - first - plan.table.times[index]
        if abs(late) > max(0.001, plan.table.tick):
            raise MediaError(path, OTHER, "decode", f"frame {index} comes {late:+.3f} s beside its time")
        if place == 0:
            frames = shared.empty((len(plan.chosen.indices), *frame.data.shape))
        frames[place] = frame.data.cpu().numpy()
    return frames
