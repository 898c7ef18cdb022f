"""Long answers to the samples' own prompts: what hallucination is counted in."""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.core.steps import Steps, ask


@probe
def captions(temperature: float = 0.0, max_tokens: int = 128) -> Callable[[Sample], Steps[list[Demo]]]:
    """One ``Demo`` per sample, empty answers included; ``ends`` is False where ``max_tokens`` cut it."""
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Demo]]:
        answer = yield from ask(Generate(prompt=sample.prompt, sampling=sampling))
        return [Demo(prompt=sample.prompt, answer=answer.text, ends=answer.finish == "end")]

    return run
