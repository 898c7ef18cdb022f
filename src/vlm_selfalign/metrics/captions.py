"""How far descriptions are from the truth: CHAIR, recall, colours, length, repetition, unread texts.

::

    described = read([("s1", "There is a car and a boat.", ["car"])], Vocabulary.load("world"))
    caption_measures(described)["chair_i"].value      # 0.5
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_selfalign.core.registry import metric
from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.scoring.claims import Claim, claimed, read_claims
from vlm_selfalign.scoring.sentences import split_sentences
from vlm_selfalign.scoring.vocabulary import Vocabulary

Truth = Sequence[str | Mapping[str, Any]]
"""What is in the picture: kinds, or objects with a ``kind`` and perhaps a ``colour``."""

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


@dataclass(frozen=True)
class Described:
    """One text, the claims read out of it, and the kinds that are there with their colours."""

    sample: str
    text: str
    claims: tuple[Claim, ...]
    truth: Mapping[str, frozenset[str]]

    @property
    def mentions(self) -> tuple[Claim, ...]:
        """The claims that something is there."""
        return tuple(claimed(self.claims))

    def is_false(self, claim: Claim) -> bool:
        """Whether a mention names what is not there."""
        return claim.kind not in self.truth


def read(texts: Iterable[tuple[str, str, Truth]], vocabulary: Vocabulary) -> list[Described]:
    """Read the claims of (sample, text, truth) triples, once for all metrics."""
    return [Described(sample, text, read_claims(text, vocabulary), _known(truth)) for sample, text, truth in texts]


def _known(truth: Truth) -> dict[str, frozenset[str]]:
    colours: dict[str, set[str]] = {}
    for thing in truth:
        kind = thing if isinstance(thing, str) else thing["kind"]
        colour = None if isinstance(thing, str) else thing.get("colour")
        colours.setdefault(kind, set()).update([colour] if colour else [])
    return {kind: frozenset(names) for kind, names in colours.items()}


def chair_i(described: Iterable[Described], repeats: bool = True) -> Measure:
    """False mentions over all mentions (Rohrbach et al. 2018, CHAIR_i).

    ``repeats=False`` counts each kind once per text (Object HalBench, Yu et al. 2024).
    """
    items = []
    for one in described:
        kinds = [claim.kind for claim in one.mentions]
        counted = kinds if repeats else sorted(set(kinds))
        items.append(Item(one.sample, sum(kind not in one.truth for kind in counted), len(counted)))
    return Measure.of("chair_i", items, True, "mentions" if repeats else "distinct")


def chair_s(described: Iterable[Described]) -> Measure:
    """Texts with a false mention over all texts, those without any mention included (Rohrbach et al. 2018, CHAIR_s)."""
    return _per_text("chair_s", described, lambda one: any(map(one.is_false, one.mentions)), lower_is_better=True)


def recall(described: Iterable[Described]) -> Measure:
    """Distinct kinds rightly mentioned over kinds that are there, pooled."""
    items = [
        Item(one.sample, len({c.kind for c in one.mentions} & set(one.truth)), len(one.truth)) for one in described
    ]
    return Measure.of("recall", items)


def length(described: Iterable[Described]) -> Measure:
    """Words per text."""
    return _per_text("length", described, lambda one: len(_WORD.findall(one.text)))


def unparsed(described: Iterable[Described]) -> Measure:
    """Texts in which no claim could be read: neither hallucinated nor right, so their share must be seen."""
    return _per_text("unparsed", described, lambda one: not one.claims, lower_is_better=True)


def repetition(described: Iterable[Described]) -> Measure:
    """Kinds mentioned more than once, per text."""
    return _per_text("repetition", described, _repeated_kinds, lower_is_better=True)


def repeated_sentences(described: Iterable[Described]) -> Measure:
    """Sentences that stood before in the same text, over all sentences."""
    items = []
    for one in described:
        said = [one.text[start:end].strip().lower() for start, end in split_sentences(one.text)]
        items.append(Item(one.sample, len(said) - len(set(said)), len(said)))
    return Measure.of("repeated_sentences", items, True)


def wrong_colour(described: Iterable[Described]) -> Measure:
    """Wrong colours over the colours said of things that are there and whose colour is known."""
    items = []
    for one in described:
        said = [c for c in one.mentions if c.colour and one.truth.get(c.kind)]
        items.append(Item(one.sample, sum(c.colour not in one.truth[c.kind] for c in said), len(said)))
    return Measure.of("wrong_colour", items, True)


def false_denials(described: Iterable[Described]) -> Measure:
    """Things denied although they are there, over all denials."""
    items = []
    for one in described:
        denials = [c for c in one.claims if c.negated]
        items.append(Item(one.sample, sum(c.kind in one.truth for c in denials), len(denials)))
    return Measure.of("false_denials", items, True)


def chair_by_sentence(described: Sequence[Described], most: int = 10) -> list[Measure]:
    """CHAIR_i among the mentions of the first, second, ... sentence; the last one takes all later sentences too."""
    measures = []
    for index in range(most):
        items = []
        for one in described:
            here = [c for c in one.mentions if min(c.sentence, most - 1) == index]
            items.append(Item(one.sample, sum(map(one.is_false, here)), len(here)))
        measures.append(Measure.of(f"chair_i_sentence_{index + 1}", items, True, "mentions"))
    while measures and measures[-1].value is None:
        measures.pop()
    return measures


def caption_measures(described: Sequence[Described]) -> dict[str, Measure]:
    """All metrics of descriptions by name."""
    measures = [measure(described) for measure in _ALL]
    return {measure.name: measure for measure in measures}


_ALL: tuple[Callable[[Sequence[Described]], Measure], ...] = (
    chair_i,
    chair_s,
    recall,
    length,
    unparsed,
    repetition,
    repeated_sentences,
    wrong_colour,
    false_denials,
)


@metric
def captions(vocabulary: str = "world") -> Callable[[Iterable[tuple[str, str, Truth]]], dict[str, Measure]]:
    """All metrics of descriptions, from (sample, text, truth) triples."""
    words = Vocabulary.load(vocabulary)
    return lambda texts: caption_measures(read(texts, words))


def _per_text(
    name: str, described: Iterable[Described], count: Callable[[Described], float], lower_is_better: bool = False
) -> Measure:
    return Measure.of(name, [Item(one.sample, float(count(one)), 1) for one in described], lower_is_better)


def _repeated_kinds(one: Described) -> int:
    return sum(count > 1 for count in Counter(claim.kind for claim in one.mentions).values())
