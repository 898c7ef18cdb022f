"""What is to be read from a clip, by its packets: the second opinion on decoders that may return other frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from vlm_selfalign.media import damage
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.damage import Damage, listening
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.files import open_regular
from vlm_selfalign.media.packets import PacketTable
from vlm_selfalign.media.readers import MAX_BYTES, Request
from vlm_selfalign.media.readers.pyav import opened, scan
from vlm_selfalign.media.sampling import EmptySegment, Sample, check_request, sample


@dataclass(frozen=True)
class Plan:
    """A clip's packets and the frames wanted of it."""

    address: str
    """Where another decoder finds the very file that was looked at; valid while the plan is open."""
    container: str
    codec: str
    table: PacketTable
    chosen: Sample
    signs: tuple[str, ...]
    """Signs of damage seen without decoding."""

    def clip(self, frames: np.ndarray, backend: str) -> Clip:
        """The frames as a clip; degraded where the file itself shows damage."""
        return Clip(
            frames=frames,
            times=self.table.times[self.chosen.indices],
            indices=self.chosen.indices,
            fps=self.table.average_rate,
            total=len(self.table),
            duration=self.table.duration,
            quality="degraded" if self.signs else "ok",
            reasons=(*self.signs, *self.chosen.reasons),
            backend=backend,
        )


@contextmanager
def planned(path: str, request: Request) -> Iterator[Plan]:
    """Open a clip and choose its frames; nothing is decoded. Raises ``MediaError``, and ``UserError`` on nonsense."""
    check_request(request)
    with open_regular(path, MAX_BYTES) as file:
        handle = file.fileno()
        with listening(request.threads) as log, opened(path, handle, request) as (container, stream):
            heard = Damage(log, damage.HEADERS)
            table = scan(path, container, stream, heard)
            try:
                chosen = sample(table.times, table.last, request)
            except EmptySegment as error:
                raise MediaError(path, "the segment lies outside the clip", "header", str(error)) from None
            _check_output(path, len(chosen.indices), stream.width, stream.height, request)
            name, codec, signs = container.format.name, stream.codec_context.name, tuple(sorted(heard.signs()))
        yield Plan(_address(path, handle), name, codec, table, chosen, signs)


def _check_output(path: str, count: int, width: int, height: int, request: Request) -> None:
    needed = count * width * height * 3
    if needed > request.max_output:
        detail = f"{count} x {width} x {height}: {needed:,} bytes, at most {request.max_output:,}"
        raise MediaError(path, "too many pixels in all", "decode", detail)


def _address(path: str, handle: int) -> str:
    """The open file by its descriptor: no odd names, and nobody can put another file in its place."""
    address = f"/proc/self/fd/{handle}"
    return address if os.path.exists(address) else path
