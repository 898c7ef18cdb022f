"""A clip as a model sees it: some frames, when each was shown, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from transformers.video_utils import VideoMetadata

CLOCK = 1000
"""Ticks a second of the clock in ``Clip.metadata``."""


@dataclass(frozen=True)
class Clip:
    """Frames taken from a clip, with their true times: they travel together, so a view that moves one moves both.

    Nothing is padded: a clip shorter than the frames asked for has fewer, and says so in ``reasons``.
    """

    frames: np.ndarray
    """uint8 ``[T, H, W, 3]``, upright RGB."""
    times: np.ndarray
    """float64 ``[T]``: when each frame is shown, in seconds after the clip's first frame."""
    indices: np.ndarray
    """int64 ``[T]``: its place among the clip's frames in the order shown, from 0."""
    fps: float
    """Frames a second of the whole clip, on average."""
    total: int
    """How many frames the whole clip has."""
    duration: float
    """Seconds from the first frame's start to the last one's end, of the whole clip."""
    quality: Literal["ok", "degraded"] = "ok"
    reasons: tuple[str, ...] = ()
    """Why it is degraded, or what was done to it; short texts that can be counted."""
    backend: str = ""

    def __len__(self) -> int:
        return len(self.frames)

    def with_(self, **changes: Any) -> Clip:
        """The same clip with some fields changed."""
        return replace(self, **changes)

    @property
    def spacing(self) -> float:
        """Seconds from one frame to the next, on average; the whole clip's length for a single frame."""
        if len(self) < 2 or np.ptp(self.times) == 0:
            return self.duration
        return float(np.ptp(self.times)) / (len(self) - 1)

    @property
    def metadata(self) -> VideoMetadata:
        """As processors of transformers take it beside the frames; call them with ``do_sample_frames=False``.

        Processors know no times. They divide: a frame is shown at ``frames_indices[k] / fps`` (Qwen3-VL, SmolVLM,
        GLM-4V, Gemma 4), and the frames are ``total_num_frames / fps / len(frames_indices)`` seconds apart
        (Qwen2.5-VL). With the clip's own rate and places the first is wrong for every variable rate, the second for
        every segment. So these fields count milliseconds, not frames: both divisions then give the true times, and
        the clip's own rate, places and number of frames are ``fps``, ``indices`` and ``total`` of the ``Clip``.
        """
        from transformers.video_utils import VideoMetadata

        return VideoMetadata(
            total_num_frames=max(1, round(self.spacing * len(self) * CLOCK)),
            fps=float(CLOCK),
            width=int(self.frames.shape[2]),
            height=int(self.frames.shape[1]),
            duration=self.duration,
            video_backend=self.backend,
            frames_indices=[round(float(time) * CLOCK) for time in self.times],
        )
