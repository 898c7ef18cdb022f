"""Chance per token: what a row draws depends on its seed, the step and the token, never on its batch.

``argmax(logits / T + G)`` with independent Gumbel noise ``G = -log(-log u)`` is an exact draw from
``softmax(logits / T)`` (Gumbel, 1954; Maddison et al., 2014, "A* Sampling", eq. 1), so seeded noise inside a logits
processor turns the plain greedy loop of ``generate(do_sample=False)`` into sampling that a batch cannot disturb.

Shapes: B rows, V vocabulary, P prompt tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from vlm_selfalign.core.requests import Sampling

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
OBSERVED = ("logprobs", "entropy", "certainty")
_CHUNK = 1 << 22
"""Noise values made at once: float64 temporaries of a few times 32 MB."""


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    # int64 shifts copy the sign bit in; the mask makes the shift a logical one
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The output function of splitmix64 (Steele et al., 2014) in wrapping int64 arithmetic."""
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def uniform(seed_B: torch.Tensor, step_B: torch.Tensor, tokens: int) -> torch.Tensor:
    """Uniform numbers in the open interval (0, 1), float64 [B, tokens].

    ``seed_B`` and ``step_B`` are int64 [B]. Column v of row b is output v of the splitmix64 stream that starts at
    hash(seed, step): the same on every device.
    """
    key_B = _mix(_mix(seed_B + _GOLDEN) + (step_B + 1) * _GOLDEN)
    counter_V = torch.arange(1, tokens + 1, device=seed_B.device) * _GOLDEN
    bits_BV = _mix(key_B[:, None] + counter_V)
    # 52 bits and a half: with 53 the largest value would round to 1.0, whose Gumbel noise is infinite
    return (_shift(bits_BV, 12).double() + 0.5) * 2.0**-52


def gumbel(seed_B: torch.Tensor, step_B: torch.Tensor, tokens: int) -> torch.Tensor:
    """Standard Gumbel noise, float32 [B, tokens], on the device of ``seed_B``."""
    device = seed_B.device
    if device.type == "mps":  # has no float64
        return gumbel(seed_B.cpu(), step_B.cpu(), tokens).to(device)
    noise_BV = torch.empty(len(seed_B), tokens, device=device)
    rows = max(1, _CHUNK // tokens)
    for start in range(0, len(seed_B), rows):
        part = slice(start, start + rows)
        noise_BV[part] = uniform(seed_B[part], step_B[part], tokens).log_().neg_().log_().neg_()
    return noise_BV


class SeededSampler(LogitsProcessor):
    """All of ``Sampling`` for the rows of one ``generate(do_sample=False)`` call, and what it saw on the way.

    Order, as in transformers: repetition penalty (prompt and answer, padding excluded), banned tokens, minimal
    length, temperature, top-k, top-p, noise. Temperature 0 is greedy. ``written`` is the length of each row's answer
    so far: noise counts its steps from there, so an answer continued under its own seed goes on as it would have.

    With ``observe`` it keeps, per step and row and under the unfiltered distribution at temperature 1: the chosen
    token's log-prob, the entropy, and the certainty KL(uniform || p) (Kang et al., 2025), all in nats.
    """

    def __init__(
        self,
        sampling: Sequence[Sampling],
        seeds: Sequence[int],
        prompt_BP: torch.Tensor,
        mask_BP: torch.Tensor,
        eos_ids: Sequence[int],
        banned_ids: Sequence[int] = (),
        written: Sequence[int] | None = None,
        observe: bool = False,
    ) -> None:
        device = prompt_BP.device

        def column(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, device=device, dtype=torch.float32)[:, None]

        self.temperature_B1 = column([s.temperature for s in sampling])
        self.penalty_B1 = column([s.repetition_penalty for s in sampling])
        self.top_p_B1 = column([s.top_p for s in sampling])
        self.top_k_B1 = column([s.top_k for s in sampling]).long()
        self.min_tokens_B1 = column([s.min_tokens for s in sampling]).long()
        # a seed is any int: two's complement keeps all 64 bits of it
        signed = [((seed + (1 << 63)) % (1 << 64)) - (1 << 63) for seed in seeds]
        self.seed_B = torch.tensor(signed, device=device, dtype=torch.int64)
        self.written_B = torch.tensor(written or [0] * len(sampling), device=device, dtype=torch.int64)
        self.prompt_BP, self.mask_BP = prompt_BP, mask_BP.bool()
        self.eos_ids = list(eos_ids)
        self.banned = torch.tensor(list(banned_ids), device=device, dtype=torch.int64)
        self.observe = observe
        self.seen_BV: torch.Tensor | None = None
        self._steps: dict[str, list[torch.Tensor]] = {what: [] for what in OBSERVED}
        self.broken_B = torch.zeros(len(sampling), dtype=torch.bool, device=device)
        """Rows that had NaN among their logits at some step."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] of the next token in, scores whose argmax is the draw out."""
        step = input_ids.shape[1] - self.prompt_BP.shape[1]
        self.broken_B |= scores.isnan().any(dim=-1)
        chosen = self._filtered(self._penalised(input_ids, scores, step), step)
        if (self.temperature_B1 > 0).any():
            noise = gumbel(self.seed_B, self.written_B + step, scores.shape[-1])
            chosen = chosen + torch.where(self.temperature_B1 > 0, noise, 0.0)
        if self.observe:
            self._observe(scores, chosen.argmax(dim=-1))
        return chosen

    def observed(self) -> dict[str, list[list[float]]]:
        """Per thing observed, per row, one number a step; empty without ``observe``."""
        return {what: torch.stack(steps, dim=1).tolist() for what, steps in self._steps.items() if steps}

    def _penalised(self, input_ids: torch.Tensor, scores: torch.Tensor, step: int) -> torch.Tensor:
        if (self.penalty_B1 == 1).all():
            return scores
        if self.seen_BV is None:
            # padding tokens must not count as seen: how many there are depends on the batch
            seen = torch.zeros(scores.shape, dtype=torch.int32, device=scores.device)
            self.seen_BV = seen.scatter_add_(1, self.prompt_BP, self.mask_BP.int()).bool()
        if step:
            self.seen_BV.scatter_(1, input_ids[:, -1:], True)
        penalised = torch.where(scores < 0, scores * self.penalty_B1, scores / self.penalty_B1)
        return torch.where(self.seen_BV, penalised, scores)

    def _filtered(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        early_B1 = self.min_tokens_B1 > step
        scores = scores.index_fill(1, self.banned, -torch.inf)
        if early_B1.any():
            scores[:, self.eos_ids] = scores[:, self.eos_ids].masked_fill(early_B1, -torch.inf)
        scores = scores / torch.where(self.temperature_B1 > 0, self.temperature_B1, 1.0)
        return keep_likely(scores, self.top_k_B1, self.top_p_B1)

    def _observe(self, scores: torch.Tensor, token_B: torch.Tensor) -> None:
        logp_BV = scores.log_softmax(dim=-1)
        self._steps["logprobs"].append(logp_BV.gather(1, token_B[:, None])[:, 0])
        self._steps["entropy"].append(entropy(logp_BV))
        self._steps["certainty"].append(certainty(logp_BV))


def keep_likely(scores_BV: torch.Tensor, top_k_B1: torch.Tensor, top_p_B1: torch.Tensor) -> torch.Tensor:
    """All but the ``top_k`` likeliest (0: all) and, of those, the smallest set of mass ``top_p``, set to -inf."""
    vocabulary = scores_BV.shape[-1]
    limited = (top_k_B1 > 0) & (top_k_B1 < vocabulary)
    if limited.any():
        ordered = scores_BV.sort(dim=-1, descending=True).values
        least_B1 = ordered.gather(1, torch.where(limited, top_k_B1, vocabulary) - 1)
        scores_BV = scores_BV.masked_fill(scores_BV < least_B1, -torch.inf)
    if (top_p_B1 < 1).any():
        ordered, order = scores_BV.sort(dim=-1, descending=True)
        probs = ordered.softmax(dim=-1)
        beyond = (probs.cumsum(dim=-1) - probs >= top_p_B1) & (top_p_B1 < 1)
        scores_BV = scores_BV.masked_fill(beyond.scatter(1, order, beyond), -torch.inf)
    return scores_BV


def entropy(logp_NV: torch.Tensor) -> torch.Tensor:
    """-sum p log p in nats, [N]; a token of probability 0 adds nothing."""
    return -(logp_NV.exp() * logp_NV.clamp_min(torch.finfo(logp_NV.dtype).min)).sum(dim=-1)


def certainty(logp_NV: torch.Tensor) -> torch.Tensor:
    """Self-certainty KL(uniform || p) = -log V - mean log p in nats, [N] (Kang et al., 2025, eq. 7)."""
    return -logp_NV.mean(dim=-1) - math.log(logp_NV.shape[-1])
