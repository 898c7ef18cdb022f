"""What every metric is made of: one row per item with numerator, denominator and the sample it came from.

A value is always sum of numerators over sum of denominators, so that CHAIR_i, recall, F1 and plain accuracy are
bootstrapped alike: resample clusters, recompute the ratio. Averages of per-item ratios are never taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm_selfalign.core.records import Record


class Item(NamedTuple):
    """One scored thing: its cluster (the sample it is about), numerator and denominator."""

    cluster: str
    num: float
    den: float


class Measure(Record):
    """A metric over items. ``protocol`` names the parsing rule where several are in use."""

    name: str
    items: tuple[Item, ...]
    lower_is_better: bool = False
    protocol: str = ""

    @classmethod
    def of(cls, name: str, items: Iterable[Item], lower_is_better: bool = False, protocol: str = "") -> Measure:
        """From any iterable of items."""
        return cls(name=name, items=tuple(items), lower_is_better=lower_is_better, protocol=protocol)

    @property
    def num(self) -> float:
        """Sum of the numerators."""
        return float(sum(item.num for item in self.items))

    @property
    def den(self) -> float:
        """Sum of the denominators."""
        return float(sum(item.den for item in self.items))

    @property
    def value(self) -> float | None:
        """The ratio of the sums; None when nothing was there to count."""
        return self.num / self.den if self.den else None

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters in sorted order, each once."""
        return tuple(sorted({item.cluster for item in self.items}))

    def sums(self, clusters: Iterable[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Numerators and denominators summed per cluster, [clusters] each, zero where a cluster has no item."""
        place = {cluster: index for index, cluster in enumerate(clusters)}
        sums = np.zeros((2, len(place)))
        for item in self.items:
            if item.cluster in place:
                sums[:, place[item.cluster]] += item.num, item.den
        return sums[0], sums[1]
