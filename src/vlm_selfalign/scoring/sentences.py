"""Where the sentences of a text are, as character spans that cover it.

::

    split_sentences("A dog sits. It is 2.5 m long.")              # [(0, 11), (11, 29)]
    split_sentences("It is 3. Then go.", rule="apasi")            # [(0, 17)]
"""

from __future__ import annotations

import re
from typing import Literal

from vlm_selfalign.core.rows import Span
from vlm_selfalign.scoring.words import wordset

Rule = Literal["english", "apasi"]

TITLES = wordset("mr mrs ms dr prof st vs e.g i.e approx fig")
"""Words whose period never ends a sentence (lower case, without that period)."""

SHORTENED = wordset("etc jr sr inc ltd a.m p.m u.s u.k ft")
"""Words whose period ends one only before a capital."""

_END = re.compile(r"[.!?]+[\"'\u201d\u2019)\]]*(?=\s|$)|[.!?]+(?=[A-Z])|\n+")
_APASI_END = re.compile(r"(?<!\d)\.(?!\d)")
_WORD_BEFORE = re.compile(r"[\w.]*$")


def split_sentences(text: str, rule: Rule = "english") -> list[Span]:
    """Spans ``(start, end)`` whose slices, joined, are the text; blanks between sentences open the later one.

    ``english`` ends a sentence at ``.``, ``!``, ``?`` and line breaks, but not inside numbers or after common
    abbreviations. ``apasi`` ends one at every period with no digit on either side, so that "It is 3. Then go"
    is one sentence and "Mr." ends one (APASI, Lu et al. 2025). Text of blanks only has no sentences.
    """
    ends = _apasi_ends(text) if rule == "apasi" else _english_ends(text)
    spans: list[Span] = []
    start = 0
    for end in [*ends, len(text)]:
        if text[start:end].strip():
            spans.append((start, end))
            start = end
    if spans:
        spans[-1] = (spans[-1][0], len(text))
    return spans


def _apasi_ends(text: str) -> list[int]:
    return [match.end() for match in _APASI_END.finditer(text)]


def _english_ends(text: str) -> list[int]:
    return [match.end() for match in _END.finditer(text) if not _is_abbreviation(text, match)]


def _is_abbreviation(text: str, match: re.Match[str]) -> bool:
    if match.group() != ".":
        return False
    found = _WORD_BEFORE.search(text, max(0, match.start() - 20), match.start())
    word = found.group() if found else ""
    after = text[match.end() :].lstrip()[:1]
    if word.lower() in TITLES:
        return bool(after)
    if word.lower() in SHORTENED:
        return bool(after) and not after.isupper()
    # "J. Smith"; but "I." is the pronoun.
    return len(word) == 1 and word.isupper() and word != "I" and after.isupper()
