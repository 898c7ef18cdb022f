"""What a loss is given and what it gives back: per-token log-probs of a row's texts, and named parts that sum.

Shape suffixes: ``B`` rows, ``T`` positions of the padded answers, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

Role = Literal["policy", "reference"]


@dataclass(frozen=True)
class TextScores:
    """One text of every row under one role. Natural logarithms, float32."""

    logp_BT: Tensor
    """log p(token); what stands where ``mask_BT`` is false is never read."""
    mask_BT: Tensor
    """Scored answer tokens, the end token included when the row says so; never the prompt, never padding."""
    span_BT: Tensor
    """The scored tokens inside the row's spans; all of ``mask_BT`` when the row has none."""
    kl_BT: Tensor | None = None
    """KL(reference || policy) over the whole vocabulary; on the policy's scores of the texts a loss asked it for."""
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    """Without gradient, ``[B, T]``: ``entropy``, ``mean_logits``, ``is_top1``, when a loss asked for them."""

    def sums(self, values_BT: Tensor, where_BT: Tensor | None = None) -> Tensor:
        """Sum per row over ``where_BT`` (default: the scored tokens), ``[B]``. What is not summed may be anything."""
        kept = self.mask_BT if where_BT is None else where_BT & self.mask_BT
        return torch.where(kept, values_BT.float(), 0.0).sum(1)


Scores = Mapping[tuple[str, Role], TextScores]
Columns = Mapping[str, Tensor]


@dataclass(frozen=True)
class LossParts:
    """Scalars that sum to the loss, and detached values per row to log (``[B]``)."""

    parts: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """The loss."""
        return torch.stack(list(self.parts.values())).sum()


@runtime_checkable
class Loss(Protocol):
    """A built loss: what it needs (data), and how it is computed."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Names out of ``core.rows.texts(row)``."""
        ...

    @property
    def roles(self) -> tuple[Role, ...]:
        """Under which models the texts are scored."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Number fields of the rows it reads."""
        ...

    @property
    def kl_texts(self) -> tuple[str, ...]:
        """Texts whose exact KL(reference || policy) it needs."""
        ...

    def __call__(self, scores: Scores, columns: Columns) -> LossParts:
        """The loss of these rows: sums over rows or tokens divided by ``items``."""
        ...

    def items(self, masks: Mapping[str, Tensor], columns: Columns) -> Tensor:
        """What the sums are divided by, a scalar: the same loss then comes out whatever the micro-batch."""
        ...

    def at_start(self, columns: Columns) -> Tensor | None:
        """The part ``preference`` when policy and reference are the same model, a scalar; None if theory is silent."""
        ...
