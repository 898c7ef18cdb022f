"""One answer with another one's sentence in it: a falsehood told in the words of the truth.

::

    right = "A boat is there. The boat moves left. A star appears."
    transplanted(right, ["Then the boat moves up."])    # "A boat is there. Then the boat moves up. A star appears."

Both sentences are a model's own, so the result reads as the rest does, and only key phrases differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from vlm_selfalign.scoring.consensus import plain
from vlm_selfalign.scoring.sentences import split_sentences


def changed_share(one: str, other: str) -> float:
    """How much of the words of two texts is not shared, in order: 0 for the same words, 1 for none in common."""
    return 1 - _alike(one.split(), other.split())


def transplanted(reference: str, sentences: Iterable[str], alike: float = 0.3) -> str | None:
    """The reference with each sentence in the place of its own most similar one; None where none is alike.

    ``alike``: share of the words of two sentences that must be the same, from 0 to 1. No sentence of the reference is
    replaced twice, and none by one that says the same.
    """
    spans = split_sentences(reference)
    own = [reference[start:end] for start, end in spans]
    now = list(own)
    for sentence in sentences:
        free = [place for place, text in enumerate(own) if now[place] == text]
        place = _nearest(sentence, own, free)
        if place is not None and alike <= _alike_words(sentence, own[place]) < 1:
            gap = own[place][: len(own[place]) - len(own[place].lstrip())]
            now[place] = gap + sentence.strip()
    return "".join(now) if now != own else None


def _nearest(sentence: str, own: Sequence[str], free: Sequence[int]) -> int | None:
    return max(free, key=lambda place: (_alike_words(sentence, own[place]), -place), default=None)


def _alike_words(one: str, other: str) -> float:
    return _alike(plain(one).split(), plain(other).split())


def _alike(one: Sequence[str], other: Sequence[str]) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
