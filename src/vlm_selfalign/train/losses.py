"""How the model learns from rows: pure functions of per-token log-probs, and the losses that recipes name.

With the log-ratio per token r_t = log p_policy - log p_reference and span masks m, the *logit* of a pair is::

    u = sum_t m_t r_t(chosen) - sum_t m_t r_t(rejected)

Per-token ratios are summed, not sums subtracted: two sums of hundreds of nats would cancel in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_selfalign.core.registry import loss
from vlm_selfalign.train.scores import Columns, LossParts, Role, Scores, TextScores

Kind = Literal["logistic", "hinge", "square"]


def log_ratios(policy: TextScores, reference: TextScores) -> Tensor:
    """Sum over the span tokens of log p_policy - log p_reference, ``[B]``."""
    return policy.sums(policy.logp_BT.float() - reference.logp_BT.float(), policy.span_BT)


def pair_ratios(scores: Scores) -> tuple[Tensor, Tensor]:
    """Log-ratios of chosen and rejected over their spans, ``[B]`` each; their difference is the logit u."""
    chosen = log_ratios(scores["chosen", "policy"], scores["chosen", "reference"])
    return chosen, log_ratios(scores["rejected", "policy"], scores["rejected", "reference"])


def pairwise_loss(
    logit_B: Tensor, label_prob: Tensor | float = 1.0, offset: Tensor | float = 0.0, kind: Kind = "logistic"
) -> Tensor:
    """Soft-label loss of a pair per row, ``[B]``, of z = logit - offset; ``logit_B`` is already scaled by beta.

    ``label_prob`` p is the probability that the label is right. logistic: p softplus(-z) + (1-p) softplus(z), least
    at sigmoid(z) = p (conservative DPO; Wang et al. 2024, CREAM); hinge: p relu(1-z) + (1-p) relu(1+z) (Zhao et al.
    2023, SLiC); square: z^2, a regression of the logit to ``offset``, which knows no label (Gao et al. 2024, REBEL).
    """
    z = logit_B.float() - offset
    if kind == "square":
        return z.square()
    one_side = F.softplus if kind == "logistic" else lambda x: torch.relu(1 + x)
    return label_prob * one_side(-z) + (1 - label_prob) * one_side(z)


def token_kl(reference_logits: Tensor, policy_logits: Tensor) -> Tensor:
    """KL(reference || policy) over the last axis, in nats and float32; gradient through the policy only.

    Finite for any finite logits, and for tokens that both forbid (-inf): 0 * log 0 counts as 0. The published code of
    RRPO takes log(softmax(.)) instead, which is NaN as soon as one probability underflows.
    """
    reference = reference_logits.detach().float().log_softmax(-1)
    policy = policy_logits.float().log_softmax(-1)
    gap = torch.where(reference.isneginf(), 0.0, reference - policy)
    return (reference.exp() * gap).sum(-1)


def pair_metrics(scores: Scores, beta: float) -> dict[str, Tensor]:
    """What every pair loss logs, per row: rewards (beta times log-ratio over spans), margin, accuracy, log-probs."""
    with torch.no_grad():
        chosen, rejected = (beta * ratio for ratio in pair_ratios(scores))
        policy = {side: scores[side, "policy"] for side in ("chosen", "rejected")}
        return {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            **{f"logps/{side}": text.sums(text.logp_BT) for side, text in policy.items()},
        }


@dataclass(frozen=True)
class PairLoss:
    """A loss on the logit of a pair, plus ``alpha`` times the summed exact KL and ``nll`` times the NLL, of chosen."""

    beta: float
    kind: Kind = "logistic"
    alpha: float = 0.0
    nll: float = 0.0
    columns: tuple[str, ...] = ("weight",)
    texts: tuple[str, ...] = ("chosen", "rejected")
    roles: tuple[Role, ...] = ("policy", "reference")

    @property
    def kl_texts(self) -> tuple[str, ...]:
        """The chosen answer, if its KL counts."""
        return ("chosen",) if self.alpha else ()

    def __call__(self, scores: Scores, columns: Columns) -> LossParts:
        """Mean over rows of weight * (pair + alpha * KL + nll * NLL)."""
        chosen, rejected = pair_ratios(scores)
        weight = columns["weight"].float()
        parts = {"preference": (weight * self._pair(chosen - rejected, columns)).mean()}
        metrics = pair_metrics(scores, self.beta)
        policy = scores["chosen", "policy"]
        if self.alpha:
            assert policy.kl_BT is not None, "the scorer was not asked for the exact KL"
            kl_B = policy.sums(policy.kl_BT)
            parts["kl"] = self.alpha * (weight * kl_B).mean()
            metrics["kl/chosen"] = kl_B.detach()
        if self.nll:
            tokens_B = policy.mask_BT.sum(1).clamp(min=1)
            parts["nll"] = self.nll * (weight * -policy.sums(policy.logp_BT) / tokens_B).mean()
        return LossParts(parts, metrics)

    def _pair(self, logit_B: Tensor, columns: Columns) -> Tensor:
        z_B = self.beta * logit_B
        if "label_prob" not in self.columns:
            return pairwise_loss(z_B, kind=self.kind)
        return pairwise_loss(z_B, columns["label_prob"].float(), columns["margin"].float(), self.kind)

    def items(self, masks: Mapping[str, Tensor], columns: Columns) -> Tensor:
        """Rows."""
        return torch.tensor(float(len(masks["chosen"])))

    def at_start(self, columns: Columns) -> Tensor | None:
        """The pair loss at u = 0: ln 2 for the logistic one with hard labels."""
        zero_B = torch.zeros_like(columns["weight"], dtype=torch.float32)
        return (columns["weight"].float() * self._pair(zero_B, columns)).mean()


@loss
def rrpo(beta: float = 0.1, alpha: float = 0.01) -> PairLoss:
    """Refined regularised preferences: -log sigmoid(beta u) + alpha KL(reference || policy) (Sarkar et al. 2025, RRPO).

    u is over span tokens; the KL is exact, over the vocabulary, summed over all answer tokens of chosen.
    """
    return PairLoss(beta=beta, alpha=alpha)


@loss
def span_dpo(beta: float = 1.0, nll: float = 0.0) -> PairLoss:
    """DPO on the differing spans; ``nll`` adds the token-mean negative log-likelihood of the whole chosen answer."""
    return PairLoss(beta=beta, nll=nll)


@loss
def soft_dpo(beta: float = 0.1, kind: Kind = "logistic", nll: float = 0.0) -> PairLoss:
    """Pairs with a soft label, a weight and a margin: ``pairwise_loss`` of a row's label_prob, weight and margin."""
    return PairLoss(beta=beta, kind=kind, nll=nll, columns=("weight", "label_prob", "margin"))


@dataclass(frozen=True)
class Imitation:
    """Negative log-likelihood of an answer."""

    reduction: Literal["token_mean", "sum"]
    columns: tuple[str, ...] = ("weight",)
    texts: tuple[str, ...] = ("answer",)
    roles: tuple[Role, ...] = ("policy",)
    kl_texts: tuple[str, ...] = ()

    def __call__(self, scores: Scores, columns: Columns) -> LossParts:
        """Weighted NLL; weights scale what they stand beside and leave the divisor alone."""
        answer = scores["answer", "policy"]
        logp_B = answer.sums(answer.logp_BT)
        nll = -(columns["weight"].float() * logp_B).sum() / self.items({"answer": answer.mask_BT}, columns)
        perplexity_B = (-logp_B / answer.mask_BT.sum(1).clamp(min=1)).exp()
        return LossParts({"nll": nll}, {"logps/answer": logp_B.detach(), "perplexity": perplexity_B.detach()})

    def items(self, masks: Mapping[str, Tensor], columns: Columns) -> Tensor:
        """Scored tokens (``token_mean``) or rows (``sum``)."""
        mask_BT = masks["answer"]
        count = mask_BT.sum() if self.reduction == "token_mean" else torch.tensor(len(mask_BT))
        return count.float().to(mask_BT.device)

    def at_start(self, columns: Columns) -> Tensor | None:
        """Nothing: the loss of imitation depends on the model."""
        return None


@loss
def sft(reduction: Literal["token_mean", "sum"] = "token_mean") -> Imitation:
    """Imitate the answers of demo rows; ``sum`` adds up a row's tokens and averages rows."""
    return Imitation(reduction)
