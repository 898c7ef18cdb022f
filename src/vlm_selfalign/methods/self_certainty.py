"""K sampled answers; the one the model is surest of is chosen, the least sure is rejected.

Self-certainty is the mean over tokens of KL(uniform || p) (Kang et al. 2025, "Scalable Best-of-N Selection via
Self-Certainty"). It needs no judge, no labels and no picture: text and vision prompts are the same to it.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.core.steps import Steps, ask_all


@method
def self_certainty(
    samples: int = 4, temperature: float = 1.0, max_tokens: int = 128, min_margin: float = 0.0
) -> Callable[[Sample], Steps[list[Pair]]]:
    """One pair per prompt whose best and worst answers differ by more than ``min_margin`` nats per token."""
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Pair]]:
        drawn = yield from ask_all(
            Generate(prompt=sample.prompt, draw=i, sampling=sampling, want=("certainty",)) for i in range(samples)
        )
        scored = [(fmean(reply.certainty), reply) for reply in drawn if reply.certainty and reply.text.strip()]
        if len(scored) < 2:
            raise Drop("fewer than two answers")
        worst, best = min(scored, key=lambda pair: pair[0]), max(scored, key=lambda pair: pair[0])
        if best[1].text == worst[1].text or best[0] - worst[0] <= min_margin:
            raise Drop("answers equally certain")
        return [
            Pair(
                prompt=sample.prompt,
                chosen=best[1].text,
                rejected=worst[1].text,
                chosen_ends=best[1].finish == "end",
                rejected_ends=worst[1].finish == "end",
                notes={"chosen_certainty": best[0], "rejected_certainty": worst[0]},
            )
        ]

    return run
