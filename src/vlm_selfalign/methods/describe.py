"""The model's own greedy answer to each prompt: the material other stages work on."""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.core.steps import Steps, ask


@method
def describe(temperature: float = 0.0, max_tokens: int = 256) -> Callable[[Sample], Steps[list[Demo]]]:
    """One ``Demo`` per sample; an empty answer drops the sample."""
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Demo]]:
        answer = yield from ask(Generate(prompt=sample.prompt, sampling=sampling))
        if not answer.text.strip():
            raise Drop("empty answer")
        return [Demo(prompt=sample.prompt, answer=answer.text, ends=answer.finish == "end")]

    return run
