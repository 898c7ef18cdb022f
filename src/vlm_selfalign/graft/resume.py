"""What a training run leaves behind so that it can be stopped at any step and goes on as if it had not been."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SAVE_EVERY = 10
"""Steps between two saved states: what is lost at most when a run is cut off."""

Log = Callable[[dict[str, Any]], None]


def records(file: Path) -> list[dict[str, Any]]:
    """What was logged, one record a line."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


@dataclass
class Run:
    """A loop over steps that remembers where it is: weights, optimizers, step, and the CPU seconds spent so far.

    ``state`` reads the weights, ``load`` puts them back; ``rate`` says at which share of its peak each learning rate
    is; ``until`` (seconds since 1970) stops the loop early, and then ``ended`` is False. All that a step does must
    depend on its number alone.
    """

    file: Path
    optimizers: Sequence[torch.optim.Optimizer]
    state: Callable[[], Mapping[str, Tensor]]
    load: Callable[[Mapping[str, Tensor]], Any]
    steps: int
    rate: Callable[[int], float]
    until: float = float("inf")
    ended: bool = field(default=False, init=False)
    _spent: float = field(default=0.0, init=False)
    _began: float = field(default_factory=time.process_time, init=False)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of this run, earlier parts included."""
        return round(self._spent + time.process_time() - self._began, 1)

    def __iter__(self) -> Iterator[int]:
        """The steps still to do, each with its learning rates set."""
        for group in self._groups():
            group["peak"] = group["lr"]
        for step in range(self._resumed(), self.steps):
            if time.time() > self.until:
                self._keep(step)
                return
            for group in self._groups():
                group["lr"] = group["peak"] * self.rate(step)
            yield step
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == self.steps:
                self._keep(step + 1)
        self.ended = True

    def apply(self, loss: Tensor) -> None:
        """One step of all optimizers down this loss; gradients are cut at norm 1."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in self._groups() for p in group["params"]], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _keep(self, step: int) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_suffix(".new")
        kept = {"weights": dict(self.state()), "optimizers": [one.state_dict() for one in self.optimizers]}
        torch.save(kept | {"step": step, "cpu_seconds": self.cpu_seconds}, draft)
        draft.replace(self.file)

    def _resumed(self) -> int:
        if not self.file.is_file():
            return 0
        kept = torch.load(self.file, weights_only=True)
        self.load(kept["weights"])
        for optimizer, state in zip(self.optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._spent, self._began = kept["cpu_seconds"], time.process_time()
        return kept["step"]


def straight(warm_up: int, steps: int, least: float = 0.0) -> Callable[[int], float]:
    """Up for ``warm_up`` steps, then down in a line, to ``least`` of the peak."""
    return lambda step: min((step + 1) / warm_up, max(least, 1 - step / steps))


def two_legs(first: Callable[[int], float], steps: int, again: int, share: float) -> Callable[[int], float]:
    """``first`` for ``steps`` steps, then for ``again`` steps in a line from a ``share`` of the peak to nothing."""
    return lambda step: first(step) if step < steps else share * (1 - (step - steps) / again)
