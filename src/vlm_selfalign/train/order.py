"""Which rows make each optimizer step, and which part of them is one process's.

The trainer takes a whole step at a time; how a step's rows go through the model is ``train.portions``'s matter. So
neither the number of processes nor the memory changes which rows a step learns from, and no row is ever seen twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

AHEAD = 64
"""Groups that are tried for the room left in a step before one is cut in two."""


class StepOrder:
    """A data loader's batch sampler: per step the rows of one process, in an order that seed and epoch decide.

    Args:
        rows: How many there are.
        batch_size: Rows of a step, over all processes; the last step of an epoch has what is left.
        seed: Of the shuffling.
        groups: What each row belongs to; rows of one group share a step as far as that has room. None shuffles rows
            one by one.
        process: Whose share this is.
        processes: How many share a step: neighbouring rows go to one process.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        groups: Sequence[Hashable] | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.rows, self.batch_size, self.seed, self.groups = rows, batch_size, seed, groups
        self.process, self.processes = process, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Each epoch has an order of its own."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps():
            each, more = divmod(len(step), self.processes)
            start = self.process * each + min(self.process, more)
            yield step[start : start + each + (self.process < more)]

    def steps(self) -> Iterator[list[int]]:
        """The rows of each step, over all processes."""
        chance = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.rows, generator=chance).tolist()
        if self.groups is None:
            return (order[at : at + self.batch_size] for at in range(0, self.rows, self.batch_size))
        return _packed(_grouped(order, self.groups), self.batch_size)


class StepLoader(DataLoader[Any]):
    """Hands the trainer the places of a step's rows; what they say is put together part by part."""

    def __init__(self, dataset: Any, order: StepOrder) -> None:
        super().__init__(dataset, batch_sampler=order, collate_fn=_places)  # type: ignore[arg-type]
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        """The trainer says which epoch begins."""
        self.order.set_epoch(epoch)


def _places(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    return {"item": torch.tensor([int(example["item"]) for example in examples], dtype=torch.long)}


def _grouped(order: Sequence[int], groups: Sequence[Hashable]) -> list[list[int]]:
    """Rows of a group together, groups in the order of their first row: shuffled rows give shuffled groups."""
    found: dict[Hashable, list[int]] = {}
    for row in order:
        found.setdefault(groups[row], []).append(row)
    return list(found.values())


def _packed(groups: list[list[int]], size: int) -> Iterator[list[int]]:
    """Steps of ``size`` rows; a group goes whole into a step that has room, and is cut where nothing else fits."""
    while groups:
        step: list[int] = []
        while groups and len(step) < size:
            room = size - len(step)
            fits = next((place for place, group in enumerate(groups[:AHEAD]) if len(group) <= room), None)
            if fits is not None:
                step += groups.pop(fits)
            else:
                step += groups[0][:room]
                groups[0] = groups[0][room:]
        yield step
