"""Which colour has each object: a canary for what training must not break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Choose
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask_all
from vlm_selfalign.scoring.self_check import COLOUR
from vlm_selfalign.scoring.truth import objects_of
from vlm_selfalign.scoring.vocabulary import Vocabulary


@probe
def colour(vocabulary: str = "world") -> Callable[[Sample], Steps[list[Labelled]]]:
    """One question per object that is the only one of its kind and whose colour is known."""
    palette = tuple(Vocabulary.load(vocabulary).colours)

    def run(sample: Sample) -> Steps[list[Labelled]]:
        objects = objects_of(sample.truth)
        alone = Counter(item["kind"] for item in objects)
        asked = [item for item in objects if alone[item["kind"]] == 1 and item.get("colour") in palette]
        if not asked:
            raise Drop("no colours in the truth")
        prompts = [sample.prompt.asking(COLOUR.format(kind=item["kind"])) for item in asked]
        replies = yield from ask_all(Choose(prompt=prompt, choices=palette) for prompt in prompts)
        return [
            Labelled(
                prompt=prompt,
                answer=reply.best,
                label=float(reply.best == item["colour"]),
                notes={"measure": "colour", "kind": item["kind"], "gold": item["colour"]},
            )
            for prompt, reply, item in zip(prompts, replies, asked, strict=True)
        ]

    return run
