"""How many objects there are: the canary that dies first when training goes too far."""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Choose
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask
from vlm_selfalign.scoring.truth import objects_of
from vlm_selfalign.scoring.vocabulary import Vocabulary

QUESTION = "How many objects are in the {place}?"


@probe
def count(at_most: int = 9, vocabulary: str = "world") -> Callable[[Sample], Steps[list[Labelled]]]:
    """One question per sample with at most ``at_most`` objects; choices 1 to ``at_most``.

    ``vocabulary`` says what the question calls what is shown.
    """
    question = QUESTION.format(place=Vocabulary.load(vocabulary).place)
    choices = tuple(str(number) for number in range(1, at_most + 1))

    def run(sample: Sample) -> Steps[list[Labelled]]:
        gold = str(len(objects_of(sample.truth)))
        if gold not in choices:
            raise Drop("no countable objects in the truth")
        prompt = sample.prompt.asking(question)
        reply = yield from ask(Choose(prompt=prompt, choices=choices))
        notes = {"measure": "count", "gold": gold}
        return [Labelled(prompt=prompt, answer=reply.best, label=float(reply.best == gold), notes=notes)]

    return run
