"""TRL's own losses of the DPO family under the names recipes use; ``train.trl`` hands them our log-probs.

They score the whole answer: spans, label_prob, weight and margin of a row are not read, and a fit says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import loss
from vlm_selfalign.train.scores import Columns, LossParts, Role, Scores

Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]

NAMES: dict[str, tuple[str, str]] = {
    "dpo": ("sigmoid", "Direct preference optimisation (Rafailov et al. 2023)"),
    "hinge": ("hinge", "Hinge on the reward margin (Zhao et al. 2023, SLiC; Liu et al. 2024, RSO)"),
    "ipo": ("ipo", "Squared distance of the token-mean log-ratio margin to 1/(2 beta) (Azar et al. 2024, eq. 17)"),
    "exo_pair": ("exo_pair", "Efficient exact optimisation for pairs (Ji et al. 2024, eq. 16); wants label_smoothing"),
    "nca_pair": ("nca_pair", "Noise-contrastive alignment (Chen et al. 2024)"),
    "robust": ("robust", "DPO unbiased under label flips of rate label_smoothing (Chowdhury et al. 2024)"),
    "bco_pair": ("bco_pair", "Binary classifier optimisation on pairs (Jung et al. 2024)"),
    "sppo_hard": ("sppo_hard", "Self-play preference optimisation with hard labels (Wu et al. 2024, eq. 4.7)"),
    "aot": ("aot", "Alignment via optimal transport, paired (Melnyk et al. 2024): sorts within a micro-batch"),
    "aot_unpaired": ("aot_unpaired", "Alignment via optimal transport, unpaired: sorts within a micro-batch"),
    "apo_zero": ("apo_zero", "Anchored preferences: chosen up, rejected down (D'Oosterlinck et al. 2024, eq. 7)"),
    "apo_down": ("apo_down", "Anchored preferences: both down, rejected more (D'Oosterlinck et al. 2024, eq. 8)"),
    "discopop": ("discopop", "Log-ratio modulated loss (Lu et al. 2024, eq. 5)"),
    "sigmoid_norm": ("sigmoid_norm", "DPO on token-mean log-ratios"),
}
"""Our name: TRL's name, and what it is."""


@dataclass(frozen=True)
class TrlLoss:
    """Which of TRL's losses, with its options; computed by ``train.trl``, never here."""

    types: tuple[str, ...]
    weights: tuple[float, ...]
    beta: float = 0.1
    label_smoothing: float = 0.0
    f_divergence: Divergence = "reverse_kl"
    f_alpha: float = 0.5
    discopop_tau: float = 0.05
    texts: tuple[str, ...] = ("chosen", "rejected")
    roles: tuple[Role, ...] = ("policy", "reference")
    columns: tuple[str, ...] = ()
    kl_texts: tuple[str, ...] = ()

    def __call__(self, scores: Scores, columns: Columns) -> LossParts:
        """Never called."""
        raise TypeError("a loss of TRL's is computed by vlm_selfalign.train.trl, not by calling it")

    def items(self, masks: Mapping[str, Tensor], columns: Columns) -> Tensor:
        """Rows."""
        return torch.tensor(float(len(masks["chosen"])))

    def at_start(self, columns: Columns) -> Tensor | None:
        """The weighted loss at log-ratios of zero (ln 2 for ``sigmoid``); None where it depends on the model."""
        values = [self._start_of(kind) for kind in self.types]
        if any(value is None for value in values):
            return None
        return torch.tensor(sum(weight * float(value or 0) for weight, value in zip(self.weights, values, strict=True)))

    def _start_of(self, kind: str) -> float | None:
        # Every f-divergence score is the same on both sides at ratio 1, so it cancels where only the gap counts.
        half, smooth = math.log(2), self.label_smoothing
        match kind:
            case "sigmoid" | "robust" | "aot" | "aot_unpaired" | "sigmoid_norm":
                return half
            case "hinge" | "apo_zero" | "apo_down":
                return 1.0
            case "ipo":
                return 1 / (4 * self.beta**2)
            case "exo_pair":
                return -half - 0.5 * (math.log1p(-smooth) + math.log(smooth)) if smooth else None
            case "nca_pair" | "bco_pair":
                return 2 * half
            case "sppo_hard":
                return 0.5 / self.beta**2
            case "discopop":
                return 0.5 * half + 0.5
        return None


@loss
def trl(
    types: tuple[str, ...] = ("sigmoid", "sft"),
    weights: tuple[float, ...] = (),
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    f_divergence: Divergence = "reverse_kl",
    f_alpha: float = 0.5,
    discopop_tau: float = 0.05,
) -> TrlLoss:
    """Any weighted mix of TRL's DPO losses by TRL's own names, such as sigmoid + sft."""
    known = {trl_name for trl_name, _ in NAMES.values()} | {"sft"}
    for kind in types:
        if kind not in known:
            raise UserError(f"trl.types: TRL has no DPO loss '{kind}'; known: {', '.join(sorted(known))}")
    if weights and len(weights) != len(types):
        raise UserError(f"trl.weights: {len(weights)} weights for {len(types)} types; give one each, or none")
    weights = weights or (1.0,) * len(types)
    return TrlLoss(types, weights, beta, label_smoothing, f_divergence, f_alpha, discopop_tau)


def _named(name: str, kind: str, doc: str) -> None:
    def build(
        beta: float = 0.1,
        label_smoothing: float = 1e-3 if kind == "exo_pair" else 0.0,
        f_divergence: Divergence = "reverse_kl",
        f_alpha: float = 0.5,
        discopop_tau: float = 0.05,
    ) -> TrlLoss:
        return TrlLoss((kind,), (1.0,), beta, label_smoothing, f_divergence, f_alpha, discopop_tau)

    build.__name__, build.__doc__ = name, f"{doc}. TRL's ``{kind}``."
    loss(build)


for _name, (_kind, _doc) in NAMES.items():
    _named(_name, _kind, _doc)
