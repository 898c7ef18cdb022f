"""What a model says and then denies when asked back: a hallucination measure that needs no truth.

It works on anyone's pictures, and it is blind to every error the model sticks to.
"""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask
from vlm_selfalign.scoring.self_check import check_kinds, named_kinds
from vlm_selfalign.scoring.vocabulary import Vocabulary


@probe
def contradiction(vocabulary: str = "world", max_tokens: int = 128) -> Callable[[Sample], Steps[list[Labelled]]]:
    """Per sample, how many of the kinds its greedy answer names it denies when asked back."""
    words = Vocabulary.load(vocabulary)

    def run(sample: Sample) -> Steps[list[Labelled]]:
        answer = yield from ask(Generate(prompt=sample.prompt, sampling=Sampling(max_tokens=max_tokens)))
        kinds = named_kinds([answer.text], words)
        if not kinds:
            raise Drop("no claim to ask back")
        verdict = yield from check_kinds(sample.prompt, kinds, words)
        denied = sorted(kind for kind, yes in verdict.exists.items() if yes <= 0.5)
        notes = {"measure": "contradiction", "num": len(denied), "den": len(kinds), "denied": denied}
        return [Labelled(prompt=sample.prompt, answer=answer.text, label=len(denied) / len(kinds), notes=notes)]

    return run
