"""Which frames of a clip are wanted: evenly by time, never by index, so that a variable rate bends nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.media.readers import Request

FEWER = "fewer frames than asked"
CAPPED = "sampled more thinly than asked: max_frames"

# Containers that count in milliseconds put a frame up to half of one beside its true time. It matters where the wanted
# times fall on the frames' own, as left ends do.
_ROUNDING = 0.0005
# The middle of a share of two frames is the start of the second: no error of arithmetic may turn that around.
_EXACT = 1e-9


class EmptySegment(ValueError):
    """A segment that lies outside the clip."""


@dataclass(frozen=True)
class Sample:
    """The frames to take, each once, and what about them is not as asked."""

    indices: np.ndarray
    """int64 ``[T]``, ascending."""
    reasons: tuple[str, ...] = ()


def check_request(request: Request) -> None:
    """Raise ``UserError`` on a request no clip could meet."""
    if (request.frames is None) == (request.fps is None):
        raise UserError("give either frames= or fps=, not both and not neither")
    for name in ("frames", "fps", "max_frames"):
        value = getattr(request, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{name}={value}: must be above 0")
    if request.policy not in ("middle", "left", "ends"):
        raise UserError(f"policy='{request.policy}': must be middle, left or ends")
    if request.start is not None and request.end is not None and not request.start < request.end:
        raise UserError(f"start={request.start}, end={request.end}: a segment must end after it starts")


def sample(times: np.ndarray, last: float, request: Request) -> Sample:
    r"""The frames shown at the wanted times.

    Over a span from a to b, n frames are those shown at a + (k + 1/2) / n (b - a) (``middle``), a + k / n (b - a)
    (``left``, as RRPO and most clip models do it; Sarkar et al., 2025) or a + k / (n - 1) (b' - a) with b' the last
    frame's own start (``ends``). ``fps`` takes the middle or the left end of every 1 / fps seconds.

    Args:
        times: float64 ``[N]``: when each frame is shown, seconds after the first, ascending.
        last: How long the last frame is shown, in seconds.
        request: What is wanted.

    Raises:
        EmptySegment: The segment lies outside the clip.
    """
    low, high = max(0.0, request.start or 0.0), float(times[-1]) + last
    high = high if request.end is None else min(high, request.end)
    if not low < high:
        raise EmptySegment(f"the clip has {float(times[-1]) + last:.3f} s")
    targets, capped = _targets(low, high, min(float(times[-1]), high), request)
    late = _EXACT if request.policy == "middle" else min(_ROUNDING, last / 4)
    found = np.searchsorted(times, targets + late, side="right") - 1
    indices = np.unique(np.maximum(found, 0)).astype(np.int64)
    asked = request.frames if request.frames is not None and not capped else len(targets)
    reasons = [FEWER] * (len(indices) < asked) + [CAPPED] * capped
    return Sample(indices, tuple(reasons))


def _targets(low: float, high: float, final: float, request: Request) -> tuple[np.ndarray, bool]:
    """The wanted times, and whether ``max_frames`` made them fewer."""
    inset = 0.5 if request.policy == "middle" else 0.0
    asked = request.frames or max(1, int(np.ceil((high - low) * (request.fps or 1) - inset - 1e-9)))
    count = min(asked, request.max_frames or asked)
    if request.policy == "ends":
        return np.linspace(low, max(low, final), count), count < asked
    if request.fps is not None and count == asked and (high - low) * request.fps >= 1:
        return np.minimum(low + (np.arange(count) + inset) / request.fps, high), False
    return low + (np.arange(count) + inset) / count * (high - low), count < asked
