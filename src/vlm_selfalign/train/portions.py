"""A step's rows cut into portions that memory takes: so many rows, so many tokens.

Tokens are counted as the model gets them: N sequences padded to the longest, or, in a tree, what texts share once.
The loss of a step is a sum over portions, so portions change nothing that is learnt (but for rounding).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlm_selfalign.core.media import Media
from vlm_selfalign.train.batch import Dropped, Item
from vlm_selfalign.train.texts import Text


@dataclass(frozen=True)
class Budget:
    """What goes through the model at once, per process."""

    rows: int
    tokens: int | None = None
    shared: bool = False
    """Texts go as a tree: what they share is there once."""
    placeholders: Collection[int] = ()
    """Tokens that stand for what is seen; texts share nothing unless they share all of these."""

    def portions(self, items: Sequence[Item], places: Sequence[int], fewer: int = 1) -> list[list[int]]:
        """``places`` of items in portions; rows that show the same stand together. ``fewer`` times fewer at once."""
        ordered = side_by_side(items, places)
        most = math.ceil(len(ordered) / max(1, math.ceil(len(ordered) / self.rows)))  # 10 rows by 8 are 5 and 5
        made: list[list[int]] = []
        tally = _Tally(self)
        for place in ordered:
            longer = tally.with_(items[place])
            if not made or len(made[-1]) == most or self._over(longer):
                made.append([])
                longer = _Tally(self).with_(items[place])
            made[-1].append(place)
            tally = longer
        return [part for portion in made for part in _cut(portion, fewer)]

    def fits(self, item: Item) -> bool:
        """Whether a row is within the budget by itself."""
        return not self._over(_Tally(self).with_(item))

    def count(self, items: Sequence[Item]) -> int:
        """Tokens of rows that go through the model at once."""
        tally = _Tally(self)
        for item in items:
            tally = tally.with_(item)
        return tally.tokens

    def _over(self, tally: _Tally) -> bool:
        return self.tokens is not None and tally.tokens > self.tokens


def within(budget: Budget, items: Sequence[Item], dropped: Dropped) -> list[Item]:
    """The rows that memory takes; others are dropped, never cut. Raises ``UserError`` when none is left."""
    kept = []
    for item in items:
        if budget.fits(item):
            kept.append(item)
        else:
            dropped.add(item.row, f"over training.max_tokens={budget.tokens} by itself")
    dropped.stop_if_all(kept)
    return kept


def groups_of(items: Sequence[Item]) -> list[Any]:
    """A group for each row: what its first text shows, or, of a row of words alone, itself."""
    return [_shown(item) or place for place, item in enumerate(items)]


def side_by_side(items: Sequence[Item], places: Sequence[int]) -> list[int]:
    """Rows whose first texts show the same side by side, in the order in which each was first met."""
    first: dict[tuple[Media, ...], int] = {}
    for at, place in enumerate(places):
        first.setdefault(_shown(items[place]), at)
    return sorted(places, key=lambda place: first[_shown(items[place])])


@dataclass
class _Tally:
    """Tokens of rows taken together, one row after the other."""

    budget: Budget
    tokens: int = 0
    longest: int = 0
    texts: int = 0
    roots: dict[Hashable, list[np.ndarray]] = field(default_factory=dict)

    def with_(self, item: Item) -> _Tally:
        """The same with one more row."""
        made = _Tally(self.budget, self.tokens, self.longest, self.texts, {k: [*v] for k, v in self.roots.items()})
        for text in item.texts.values():
            made.longest, made.texts = max(made.longest, len(text.ids)), made.texts + 1
            if self.budget.shared:
                made.tokens += made._new(text)
        if not self.budget.shared:
            made.tokens = made.texts * made.longest
        return made

    def _new(self, text: Text) -> int:
        """Tokens of a text that no text before it with the same media begins with."""
        ids = np.array(text.ids)
        seen = np.flatnonzero(np.isin(ids, list(self.budget.placeholders))) if text.prompt.media else np.array([])
        root = text.prompt.media, text.ids[: int(seen[-1]) + 1] if len(seen) else ()
        known = self.roots.setdefault(root, [])
        shared = max((_common(ids, other) for other in known), default=0)
        known.append(ids)
        return len(ids) - shared


def _shown(item: Item) -> tuple[Media, ...]:
    return next(iter(item.texts.values())).prompt.media


def _common(one: np.ndarray, other: np.ndarray) -> int:
    short = min(len(one), len(other))
    differs = one[:short] != other[:short]
    return int(differs.argmax()) if differs.any() else short


def _cut(portion: list[int], fewer: int) -> list[list[int]]:
    size = math.ceil(len(portion) / fewer)
    return [portion[at : at + size] for at in range(0, len(portion), size)]
