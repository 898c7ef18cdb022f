"""Imitate your own best: the longest own description whose every sentence survives the own check, and that names
everything the model itself confirms (rejection sampling; the training control of every preference recipe).
"""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Sampling
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.core.steps import Steps
from vlm_selfalign.scoring.self_check import check_kinds, draw_texts, examine, named_kinds
from vlm_selfalign.scoring.vocabulary import Vocabulary


@method
def verified(
    samples: int = 8,
    temperature: float = 1.0,
    max_tokens: int = 128,
    vocabulary: str = "world",
    threshold: float = 0.5,
    complete: bool = True,
) -> Callable[[Sample], Steps[list[Demo]]]:
    """One ``Demo`` per sample, or none. ``complete``: it must name every kind any own sample named and the own
    check confirms.
    """
    words = Vocabulary.load(vocabulary)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Demo]]:
        texts = yield from draw_texts(sample.prompt, samples, sampling)
        verdict = yield from check_kinds(sample.prompt, named_kinds(texts, words), words, colours=True)
        known = {kind for kind, probability in verdict.exists.items() if probability > threshold}
        clean = [
            text
            for text in texts
            if all(sentence.clean for sentence in examine(text, verdict, words, threshold))
            and (not complete or named_kinds([text], words) >= known)
        ]
        if not clean:
            raise Drop("no own description survives its own check")
        return [Demo(prompt=sample.prompt, answer=max(clean, key=len))]

    return run
