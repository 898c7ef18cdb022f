"""When every frame of a clip is shown, read off its packets: nothing is decoded, and no header is believed.

A container lists packets in the order they are decoded. Sorted by presentation time they are the frames in the order
shown, which is all that sampling by time needs. What headers say about counts, rates and lengths is often missing
(Matroska, transport streams) or wrong (variable rate, cut files).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Packet(NamedTuple):
    """One packet, times in ticks of its stream."""

    pts: int | None
    """When its frame is shown."""
    dts: int | None
    """When it is decoded."""
    duration: int = 0
    key: bool = False
    hidden: bool = False
    """Decoded but not shown: what an edit list cut off."""
    size: int = 0


@dataclass(frozen=True)
class PacketTable:
    """The frames of a clip in the order shown, and the packets they come from."""

    packets: Sequence[Packet]
    tick: float
    """Seconds."""
    rate: float
    """Frames a second by the header, for clips whose packets carry no times."""
    jump: float = float("inf")
    """Seconds forward that count as a reset of the clock; transport streams are cut together like that."""

    def __len__(self) -> int:
        """How many frames are shown."""
        return len(self.order)

    @cached_property
    def stamps(self) -> list[int]:
        """Presentation time of every packet in ticks, with gaps filled and clock resets undone."""
        raw = [p.pts if p.pts is not None else p.dts for p in self.packets]
        gap = self._gap(raw)
        stamps: list[int] = []
        for start, end in zip(self._breaks, [*self._breaks[1:], len(raw)], strict=True):
            part = _filled(raw[start:end], gap)
            shift = max(stamps) + gap - min(part) if stamps else 0
            stamps.extend(stamp + shift for stamp in part)
        return stamps

    @cached_property
    def timed(self) -> bool:
        """Whether the packets carry times at all (raw streams do not)."""
        return any(p.pts is not None or p.dts is not None for p in self.packets)

    @cached_property
    def single(self) -> bool:
        """Whether a presentation time names one frame: one clock, no two frames at once, every frame stamped."""
        shown = [self.packets[k].pts for k in self._shown]
        return len(self._breaks) == 1 and None not in shown and not self.doubled

    @cached_property
    def resets(self) -> int:
        """How often the clock was set anew."""
        return len(self._breaks) - 1

    @cached_property
    def order(self) -> np.ndarray:
        """int64 ``[N]``: the packet of every frame, in the order shown."""
        shown = np.array(self._shown, np.int64)
        return shown[np.argsort(np.array(self.stamps, np.int64)[shown], kind="stable")] if len(shown) else shown

    @cached_property
    def _shown(self) -> list[int]:
        """Packets whose frames are shown: none that an edit list hides, none before the first key packet."""
        first = next((k for k, p in enumerate(self.packets) if p.key), 0)
        return [k for k in range(first, len(self.packets)) if not self.packets[k].hidden]

    @cached_property
    def doubled(self) -> frozenset[int]:
        """Presentation times that two frames of one clock claim; no telling which frame is which by them."""
        parts = zip(self._breaks, [*self._breaks[1:], len(self.packets)], strict=True)
        counts = (Counter(p.pts for p in self.packets[start:end]) for start, end in parts)
        return frozenset(pts for count in counts for pts, times in count.items() if pts is not None and times > 1)

    @cached_property
    def hidden(self) -> frozenset[int | None]:
        """Presentation times of frames that are not shown."""
        shown = set(self._shown)
        return frozenset(p.pts for k, p in enumerate(self.packets) if k not in shown)

    @cached_property
    def times(self) -> np.ndarray:
        """float64 ``[N]``: when every frame is shown, in seconds after the first."""
        if not self.timed:
            return np.arange(len(self)) / self.rate
        ticks = np.array(self.stamps, np.int64)[self.order]
        steady = ticks[0] + np.arange(len(ticks)) * self._gap(ticks.tolist())
        # Program streams stamp only some packets, and FFmpeg's guesses in between may coincide: as many frames as a
        # steady clock would have shown are taken to be steady.
        if self.doubled and abs(int(steady[-1] - ticks[-1])) <= 2 * (steady[1] - steady[0]):
            ticks = steady
        return (ticks - ticks[0]) * self.tick

    @cached_property
    def last(self) -> float:
        """How long the last frame is shown, in seconds: as stated, else as long as the one before.

        Where the container says nothing FFmpeg puts in a guess, which shows in the frame before.
        """
        stated = [self.packets[int(k)].duration * self.tick for k in self.order[-2:]]
        gap = float(np.diff(self.times[-2:]).sum())
        if self.timed and stated[-1] > 0 and (len(stated) < 2 or abs(stated[0] - gap) < 1.5 * self.tick):
            return stated[-1]
        return gap if gap > 0 else 1 / self.rate

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return float(self.times[-1]) + self.last

    @property
    def average_rate(self) -> float:
        """Frames a second, over the whole clip."""
        return len(self) / self.duration

    @cached_property
    def frame_at(self) -> dict[int, list[int]]:
        """The frames that carry a presentation time in the file, earliest first."""
        found: dict[int, list[int]] = {}
        for frame, packet in enumerate(self.order):
            stamp = self.packets[int(packet)].pts
            if stamp is not None:
                found.setdefault(stamp, []).append(frame)
        return found

    def key_before(self, frame: int) -> int:
        """The packet from which a frame can be decoded; -1 if there is none.

        The nearest key packet at or before the frame's own that is also shown no later: a frame shown before the
        key frame it follows in the file (open GOP) needs the frames before that key, too.
        """
        own = int(self.order[frame])
        for k in range(own, -1, -1):
            if self.packets[k].key and self.stamps[k] <= self.stamps[own]:
                return k
        return -1

    def place_of(self, pts: int | None, dts: int | None, size: int) -> int | None:
        """Which packet this is, by its times and size; ``None`` if none or several would do."""
        found = self._places.get((pts, size)) or self._places_decoded.get((dts, size)) or []
        return found[0] if len(found) == 1 else None

    @cached_property
    def _places(self) -> dict[tuple[int | None, int], list[int]]:
        return _listed((p.pts, p.size) for p in self.packets if p.pts is not None)

    @cached_property
    def _places_decoded(self) -> dict[tuple[int | None, int], list[int]]:
        return _listed((p.dts, p.size) for p in self.packets)

    @cached_property
    def _breaks(self) -> list[int]:
        """Where a clock starts: 0, and wherever decoding times go back by more than a frame or two, or leap ahead."""
        breaks, latest = [0], None
        back, ahead = 2 * self._gap([p.dts for p in self.packets]), self.jump / self.tick
        for k, packet in enumerate(self.packets):
            if packet.dts is None:
                continue
            if latest is not None and not -back <= packet.dts - latest <= ahead:
                breaks.append(k)
            latest = packet.dts
        return breaks

    def _gap(self, stamps: Sequence[int | None]) -> int:
        """The commonest distance between neighbours, in ticks."""
        known = sorted({stamp for stamp in stamps if stamp is not None})
        gaps = Counter(b - a for a, b in pairwise(known))
        return gaps.most_common(1)[0][0] if gaps else max(1, round(1 / self.rate / self.tick))


def _filled(stamps: Sequence[int | None], gap: int) -> list[int]:
    """Stamps with every missing one a frame after its neighbour."""
    filled: list[int] = []
    for stamp in stamps:
        filled.append(stamp if stamp is not None else filled[-1] + gap if filled else 0)
    return filled


def _listed(keys: object) -> dict[tuple[int | None, int], list[int]]:
    found: dict[tuple[int | None, int], list[int]] = {}
    for place, key in enumerate(keys):  # type: ignore[arg-type]
        found.setdefault(key, []).append(place)
    return found
