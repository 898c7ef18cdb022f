"""What several answers to one question have in common, and the one among them that says it.

Answers agree as far as they claim the same things and events; answers that claim nothing that can be read ("Twice.")
agree when they are the same words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from vlm_selfalign.scoring.self_check import named_kinds
from vlm_selfalign.scoring.vocabulary import Vocabulary

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")


def plain(text: str) -> str:
    """The words of a text in lower case, one blank between them: equal for answers that differ in form only."""
    return " ".join(_WORD.findall(text.lower()))


def agreement(one: str, other: str, vocabulary: Vocabulary) -> float:
    """Share of their claims that two answers have in common, 2 |A and B| / (|A| + |B|), from 0 to 1."""
    return _agreement(_said(one, vocabulary), _said(other, vocabulary))


def consensus(texts: Sequence[str], vocabulary: Vocabulary) -> tuple[int, float]:
    """Which answer the others agree with most (the first of equals), and how far, from 0 to 1.

    Equal answers each count: what is said often is what is agreed on. A single answer agrees with nobody: 0.
    Raises ``ValueError`` without any.
    """
    if not texts:
        raise ValueError("no answers, no consensus")
    said = [_said(text, vocabulary) for text in texts]
    shares = [
        fmean([_agreement(one, other) for j, other in enumerate(said) if j != i] or [0.0]) for i, one in enumerate(said)
    ]
    best = max(range(len(texts)), key=lambda i: (shares[i], -i))
    return best, shares[best]


def _said(text: str, vocabulary: Vocabulary) -> frozenset[str]:
    return frozenset(named_kinds([text], vocabulary) or {f"words: {plain(text)}"})


def _agreement(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))
