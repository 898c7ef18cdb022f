"""How far the policy has moved: KL(policy || start) in nats per token, on the policy's own samples.

The mean over tokens of log p_policy - log p_start on tokens drawn from the policy at temperature 1 is an unbiased
estimate of the KL per token; being one, it can come out slightly negative when nothing moved.
"""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Generate, Sampling, Score
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask, together


@probe
def drift(max_tokens: int = 128) -> Callable[[Sample], Steps[list[Labelled]]]:
    """One own sample per prompt, scored by the policy and by ``policy@0``."""
    sampling = Sampling(temperature=1.0, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Labelled]]:
        drawn = yield from ask(Generate(prompt=sample.prompt, sampling=sampling))
        if not drawn.text.strip():
            raise Drop("empty answer")
        ends = drawn.finish == "end"
        now, start = yield from together(
            ask(Score(prompt=sample.prompt, answer=drawn.text, ends=ends)),
            ask(Score(prompt=sample.prompt, answer=drawn.text, ends=ends, to="policy@0")),
        )
        moved = sum(a - b for a, b in zip(now.logprobs, start.logprobs, strict=True))
        notes = {"measure": "kl_per_token", "num": moved, "den": len(now.logprobs)}
        return [Labelled(prompt=sample.prompt, answer=drawn.text, label=moved, notes=notes)]

    return run
