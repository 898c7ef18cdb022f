"""Decoded frames to upright 8-bit RGB, all in one array."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from vlm_selfalign.media import shared

_UNSPECIFIED = 2
RESIZED = "the picture size changes: scaled to the first"


class TooLarge(ValueError):
    """The frames would fill more bytes than allowed."""


class Pixels:
    """Takes at most ``count`` frames, in the order shown; the array is made when the first one tells its size."""

    def __init__(self, count: int, max_output: int) -> None:
        self._count, self._max_output = count, max_output
        self._graphs: dict[str, tuple[object, Graph]] = {}
        self._array = np.empty((0, 0, 0, 3), np.uint8)
        self.indices: list[int] = []
        self.resized = False
        self._orientations: dict[float, tuple[bool, bool, bool]] = {}

    def add(self, index: int, frame: VideoFrame) -> None:
        """Keep a frame; ``index`` is its place in the clip. Raises ``TooLarge``."""
        # The scaler refuses reserved values here, and converts nothing by valid ones: no tone mapping.
        frame.color_trc = frame.color_primaries = _UNSPECIFIED
        turned, flip_rows, flip_columns = self._orientation_of(frame)
        if not self.indices:
            height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
            self._make_room(height, width)
        height, width = self._array.shape[1:3]
        stored = (height, width) if turned else (width, height)
        self.resized |= stored != (frame.width, frame.height)
        target = self._array[len(self.indices)]
        target = target[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        self._convert(frame, *stored, target.swapaxes(0, 1) if turned else target)
        self.indices.append(index)

    def frames(self) -> np.ndarray:
        """uint8 ``[T, H, W, 3]``."""
        return self._array[: len(self.indices)]

    def _orientation_of(self, frame: VideoFrame) -> tuple[bool, bool, bool]:
        """Read once for each angle: to ask for side data ties a frame into a circle, and keeps its memory until the
        garbage collector comes by.
        """
        if frame.rotation not in self._orientations:
            self._orientations[frame.rotation] = _orientation(frame)
        return self._orientations[frame.rotation]

    def _make_room(self, height: int, width: int) -> None:
        needed = self._count * height * width * 3
        if needed > self._max_output:
            raise TooLarge(f"{self._count} x {width} x {height}: {needed:,} bytes, at most {self._max_output:,}")
        self._array = shared.empty((self._count, height, width, 3))

    def _convert(self, frame: VideoFrame, width: int, height: int, target: np.ndarray) -> None:
        rgb = self._plane(frame, width, height, "rgb24")
        if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
            alpha = self._plane(frame, width, height, "rgba")[..., 3:].astype(np.uint16)
            if alpha.min() < 255:  # seen over white, as pictures are
                np.copyto(target, ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))
                return
        np.copyto(target, rgb)

    def _plane(self, frame: VideoFrame, width: int, height: int, form: str) -> np.ndarray:
        """uint8 ``[height, width, channels]``."""
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, width, height)
        if self._graphs.get(form, (None,))[0] != key:
            self._graphs[form] = key, _graph(frame, width, height, form)
        graph = self._graphs[form][1]
        graph.vpush(frame)
        converted = graph.vpull()
        plane, channels = converted.planes[0], converted.format.padded_bits_per_pixel // 8
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height]  # type: ignore[call-overload]
        return rows[:, : width * channels].reshape(height, width, channels)


def _graph(frame: VideoFrame, width: int, height: int, form: str) -> Graph:
    """What the ffmpeg program does to write RGB; PyAV's own conversion differs from it for odd sizes and 10 bits."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    graph.link_nodes(
        source, graph.add("scale", f"{width}:{height}"), graph.add("format", form), graph.add("buffersink")
    )
    graph.configure()
    return graph


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """Whether to swap rows and columns, then to flip rows, then columns, for the frame to stand upright.

    The display matrix sends a stored point (x, y) to (a x + c y, b x + d y); PyAV gives the angle but not mirroring.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()  # type: ignore[call-overload]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0
