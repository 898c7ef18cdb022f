"""Texts that begin alike, packed so that what they share stands once.

All texts that show the same media go into one trie; the tries stand one after the other in one row of T tokens, each
node (a run of tokens at whose end texts part) before its children. Then a token q may see a token k exactly when
k <= q < end of the subtree of k's node: one rule for shared prompts, groups of K answers, several questions about one
picture and unrelated pictures in one row. Tries only merge equal beginnings, so nothing that a text computes changes.

Shapes: T tokens of the row, N texts, S scored tokens over all texts, M different (place, next token) pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Branch(Protocol):
    """What a tree needs to know of a text."""

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens."""
        ...

    @property
    def scored(self) -> int:
        """How many of the last tokens are scored."""
        ...


@dataclass(frozen=True)
class Node:
    """A run ``[start, end)`` of the row; its descendants are ``[end, reach)``."""

    start: int
    end: int
    reach: int
    root: bool = True
    """Nothing stands above it."""


@dataclass
class Tree:
    """One packed row and how to read the texts off it."""

    ids_T: Tensor
    depth_T: Tensor
    """Place of each token in its own texts."""
    nodes: tuple[Node, ...]
    places: tuple[np.ndarray, ...]
    """For each text, where in the row its tokens stand."""
    row_M: Tensor
    """Places whose outputs are wanted."""
    next_M: Tensor
    """The tokens they should predict."""
    pair_S: Tensor
    """For each scored token, text by text, which of the M pairs it is."""
    roots: tuple[Hashable, ...]
    """What the tries show, in the order in which they stand."""
    positions: Tensor | None = None
    """``[1, T]`` or, where rotary positions have axes, ``[A, 1, T]``."""
    kinds: Mapping[str, Tensor] = field(default_factory=dict)
    """Model inputs with one number per token, ``[1, T]``."""
    looks: tuple[Any, ...] = ()
    """What the roots show, for whoever turns it into features."""

    def gathered(self, per_text: Sequence[Tensor]) -> Tensor:
        """A row's values from each text's, per token on the last axis; texts agree where they share."""
        made = per_text[0].new_zeros(*per_text[0].shape[:-1], len(self.ids_T))
        for places, values in zip(self.places, per_text, strict=True):
            made[..., torch.from_numpy(places)] = values
        return made

    def to(self, device: torch.device) -> Tree:
        """The same on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        kinds = {name: value.to(device) for name, value in self.kinds.items()}
        return Tree(**{**vars(self), **moved, "kinds": kinds})


def plant(texts: Sequence[Branch], roots: Sequence[Hashable]) -> Tree:
    """Pack texts; those with equal ``roots`` (what they show) may share, others never do.

    Raises ``ValueError`` when a text is shorter than two tokens or scores its first one, which nothing predicts.
    """
    for text in texts:
        if len(text.ids) < 2 or text.scored >= len(text.ids):
            raise ValueError("a text must begin with a token that is not scored")
    groups: dict[Hashable, list[int]] = {}
    for place, root in enumerate(roots):
        groups.setdefault(root, []).append(place)
    row, nodes, spots = _Row(), [], [np.empty(len(text.ids), dtype=np.int64) for text in texts]
    for members in groups.values():
        nodes += _grow(texts, members, 0, row, spots)
    ids, depth = np.array(row.ids), np.array(row.depth)
    wanted = np.concatenate([spots[n][len(t.ids) - t.scored - 1 : -1] for n, t in enumerate(texts)])
    targets = np.concatenate([np.array(t.ids[len(t.ids) - t.scored :], dtype=np.int64) for t in texts])
    pairs, pair_S = np.unique(np.stack([wanted, targets]), axis=1, return_inverse=True)
    return Tree(
        ids_T=torch.from_numpy(ids),
        depth_T=torch.from_numpy(depth),
        nodes=tuple(nodes),
        places=tuple(spots),
        row_M=torch.from_numpy(pairs[0].copy()),
        next_M=torch.from_numpy(pairs[1].copy()),
        pair_S=torch.from_numpy(pair_S.reshape(-1)),
        roots=tuple(groups),
    )


class _Row:
    """The row as it grows."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.depth: list[int] = []


def _grow(
    texts: Sequence[Branch], members: Sequence[int], depth: int, row: _Row, spots: list[np.ndarray]
) -> Iterator[Node]:
    """The nodes of members that agree on their first ``depth`` tokens, which stand already."""
    children: dict[int, list[int]] = {}
    for member in members:
        if len(texts[member].ids) > depth:
            children.setdefault(texts[member].ids[depth], []).append(member)
    for child in children.values():
        common = _common([texts[member].ids for member in child])
        start, end = len(row.ids), len(row.ids) + common - depth
        row.ids += texts[child[0]].ids[depth:common]
        row.depth += range(depth, common)
        for member in child:
            spots[member][depth:common] = np.arange(start, end)
        below = list(_grow(texts, child, common, row, spots))
        yield Node(start, end, len(row.ids), root=depth == 0)
        yield from below


def _common(rows: Sequence[tuple[int, ...]]) -> int:
    """Length of the common beginning; only the least and the greatest row can part first."""
    least, most = min(rows), max(rows)
    if least == most:
        return len(least)
    short = min(len(least), len(most))
    differs = np.array(least[:short]) != np.array(most[:short])
    return int(differs.argmax()) if differs.any() else short
