"""Muon (Jordan et al. 2024): momentum whose matrices are made orthogonal before the step.

For the tiny model's matrices it needs about a quarter of the steps that AdamW does. torch has one, but it works in
bfloat16, which is slow on a CPU without such instructions, and one matrix at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

STEEP, CUBE, FIFTH = 3.4445, -4.7750, 2.0315
"""The published polynomial aX + bX^3 + cX^5, whose iteration takes all singular values near 1."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; for 2-D parameters only.

    Steps are scaled by ``0.2 sqrt(longer side)`` so that their size is AdamW's at the same learning rate
    (Liu et al. 2025, eq. 4).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for parameters in shapes.values():
                updates = orthogonal(torch.stack([self._update(p, group["momentum"]) for p in parameters]))
                scale = 0.2 * max(parameters[0].shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.add_(update, alpha=-group["lr"] * scale)

    def _update(self, parameter: Tensor, momentum: float) -> Tensor:
        assert parameter.grad is not None
        average: Tensor = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
        average.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """About the nearest orthogonal matrix of each, [N, rows, columns]: singular values end between 0.7 and 1.2."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-12)
    for _ in range(steps):
        square = x @ x.mT
        x = STEEP * x + (CUBE * square + FIFTH * square @ square) @ x
    return x if wide is matrices else x.mT
