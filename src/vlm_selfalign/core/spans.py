"""Where two answers differ, as character spans on word boundaries."""

from __future__ import annotations

import difflib
import re

from vlm_selfalign.core.rows import Span

_WORD = re.compile(r"\s*\S+")


def differing_spans(chosen: str, rejected: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans of whole words that are not shared, per side; an insertion leaves the other side without a span.

    Aligned by longest matching blocks of words (difflib without its frequency heuristic). Equal texts: none.
    """
    left, right = list(_WORD.finditer(chosen)), list(_WORD.finditer(rejected))
    matcher = difflib.SequenceMatcher(
        None, [m.group().strip() for m in left], [m.group().strip() for m in right], autojunk=False
    )
    spans: tuple[list[Span], list[Span]] = ([], [])
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            for words, first, last, found in ((left, i1, i2, spans[0]), (right, j1, j2, spans[1])):
                if last > first:
                    found.append((_start(words[first]), words[last - 1].end()))
    return tuple(spans[0]), tuple(spans[1])


def replaced(text: str, span: Span, new: str) -> tuple[str, Span]:
    """The text with one span replaced, and the span of the replacement: exact by construction."""
    start, end = span
    return text[:start] + new + text[end:], (start, start + len(new))


def _start(word: re.Match[str]) -> int:
    return word.start() + len(word.group()) - len(word.group().lstrip())
