"""What a training run leaves behind so that it can be stopped at any step and goes on as if it had not been."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SAVE_EVERY = 10
"""Steps between two saved states: what is lost at most when a run is cut off."""

Log = Callable[[dict[str, Any]], None]


@dataclass
class Run:
    """A loop over steps that remembers where it is: weights, optimizer, step, and the CPU seconds spent so far.

    ``state`` reads the weights, ``load`` puts them back; ``until`` (seconds since 1970) stops the loop early, and
    then ``ended`` is False. All that a step does must depend on its number alone.
    """

    file: Path
    optimizer: torch.optim.Optimizer
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
        """The steps still to do, each with its learning rate set."""
        for step in range(self._resumed(), self.steps):
            if time.time() > self.until:
                self._keep(step)
                return
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(step)
            yield step
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == self.steps:
                self._keep(step + 1)
        self.ended = True

    def _keep(self, step: int) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_suffix(".new")
        kept = {"weights": dict(self.state()), "optimizer": self.optimizer.state_dict()}
        torch.save(kept | {"step": step, "cpu_seconds": self.cpu_seconds}, draft)
        draft.replace(self.file)

    def _resumed(self) -> int:
        if not self.file.is_file():
            return 0
        kept = torch.load(self.file, weights_only=True)
        self.load(kept["weights"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self._spent, self._began = kept["cpu_seconds"], time.process_time()
        return kept["step"]


def straight(rate: float, warm_up: int, steps: int, least: float = 0.0) -> Callable[[int], float]:
    """A learning rate that goes up for ``warm_up`` steps and then down in a line, to ``least`` of its peak."""
    return lambda step: rate * min((step + 1) / warm_up, max(least, 1 - step / steps))
