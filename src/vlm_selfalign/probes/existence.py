"""POPE on any labelled picture or clip: is this object there, with random, popular and adversarial absent ones
(Li et al. 2023, "Evaluating Object Hallucination in Large Vision-Language Models").
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Choose
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask_all
from vlm_selfalign.scoring.told import asked_back
from vlm_selfalign.scoring.truth import kinds_of
from vlm_selfalign.scoring.vocabulary import Vocabulary


@probe
def existence(per_split: int = 2, vocabulary: str = "world") -> Callable[..., Steps[list[Labelled]]]:
    """Per sample and split, up to ``per_split`` questions whose answer is yes and as many whose answer is no.

    Absent objects are drawn from all that the measured samples hold: any, the most frequent, or those that stand
    most often beside what is there. ``vocabulary`` says what the questions call what is shown. ``notes``: measure,
    kind, gold, p_yes.
    """
    place = Vocabulary.load(vocabulary).place

    def run(sample: Sample, survey: Survey) -> Steps[list[Labelled]]:
        present = kinds_of(sample.truth)
        if not present:
            raise Drop("no objects in the truth")
        asked = [
            (split, kind, gold)
            for split in SPLITS
            for kind, gold in survey.questions(present, split, per_split, sample.rng(split))
        ]
        prompts = [sample.prompt.asking(asked_back(kind, place=place)) for _, kind, _ in asked]
        replies = yield from ask_all(Choose(prompt=prompt) for prompt in prompts)
        return [
            Labelled(
                prompt=prompt,
                answer=reply.best,
                label=float(reply.best == gold),
                notes={"measure": f"existence_{split}", "kind": kind, "gold": gold, "p_yes": reply.prob("Yes")},
            )
            for prompt, reply, (split, kind, gold) in zip(prompts, replies, asked, strict=True)
        ]

    run.survey = Survey.of  # type: ignore[attr-defined]
    return run


SPLITS = ("random", "popular", "adversarial")


class Survey:
    """What the measured samples hold, and beside what: where absent objects are drawn from."""

    def __init__(self, count: Counter[str], together: dict[str, Counter[str]]) -> None:
        self.count = count
        self.together = together

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Survey:
        """Count kinds and pairs of kinds over the truths."""
        count: Counter[str] = Counter()
        together: dict[str, Counter[str]] = {}
        for sample in samples:
            present = kinds_of(sample.truth)
            count.update(present)
            for kind in present:
                together.setdefault(kind, Counter()).update(other for other in present if other != kind)
        return cls(count, together)

    def questions(
        self, present: Sequence[str], split: str, per_split: int, chance: random.Random
    ) -> list[tuple[str, str]]:
        """(kind, right answer) for one split."""
        yes = chance.sample(sorted(present), min(per_split, len(present)))
        absent = sorted(set(self.count) - set(present))
        chance.shuffle(absent)
        if split == "popular":
            absent.sort(key=lambda kind: -self.count[kind])
        if split == "adversarial":
            absent.sort(key=lambda kind: -max(self.together.get(p, Counter())[kind] for p in present))
        return [(kind, "Yes") for kind in yes] + [(kind, "No") for kind in absent[: len(yes)]]
