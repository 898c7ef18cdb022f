"""What an answer to a closed question says, by strict rules: yes or no, or one of several options.

::

    options = {"A": "dunking a basketball", "B": "passing a basketball"}
    read_choice("B", options), read_choice("(B) passing a basketball.", options)     # "B", "B"
    read_choice("dunking a basketball", options)                                     # "A"
    read_choice("A or B", options), read_choice("It could be dunking.", options)     # None, None

What cannot be read is None, never a guess: whoever counts must count it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

_WORD = re.compile(r"[a-z0-9]+(?:['\u2019][a-z]+)?")
_MARKS = re.compile(r"</?s>|<\|[^|]*\|>|[*`\"\u201c\u201d]")
_LEAD = re.compile(
    r"^(?:so,? |therefore,? )?(?:my |the )?(?:(?:best|correct|right|final) )?"
    r"(?:answer|option|choice)\b(?: is| would be)?\s*:?\s*",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(r"\b(?:answer|option|choice)(?: is| would be|:)\s*:?\s*(.*)", re.IGNORECASE)
_ARTICLES = frozenset(("a", "an", "the"))


def read_yes_no(answer: str) -> Literal["yes", "no"] | None:
    """The opening word if that is yes or no in any case, else the only one of the two among the words; else None."""
    words: list[str] = _WORD.findall(_MARKS.sub("", answer).lower())
    if words and words[0] in ("yes", "no"):
        return words[0]  # type: ignore[return-value]
    said = {"yes", "no"} & set(words)
    return said.pop() if len(said) == 1 else None  # type: ignore[return-value]


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The label of the only option an answer names: its label, its label with its text, or its text alone.

    Labels may be ``A``, or of several words, ``Option 1``; then the last word alone counts too. A label whose text is
    another option's, two labels, or words around a text that are not read, are None.
    """
    lines = [line.strip() for line in _MARKS.sub("", answer).strip().splitlines() if line.strip()]
    if not lines:
        return None
    said = [_LEAD.sub("", lines[0]), *(match.group(1) for line in lines for match in _INTRODUCED.finditer(line))]
    found = {label for part in said if (label := _said(part, options))}
    return found.pop() if len(found) == 1 else None


def _said(line: str, options: Mapping[str, str]) -> str | None:
    """What one line says: a label, a label and the text of that option, or a text."""
    texts = _by_text(options)
    if (named := texts.get(_plain(line))) is not None:
        return named
    label, rest = _opening(line, options)
    if label is None:
        return None
    rest_said = texts.get(_plain(rest))
    if rest_said is not None or not _plain(rest):
        return label if rest_said in (None, label) else None
    return label if _is_marked(line, rest) and not _labels_in(rest, options) - {label} else None


def _is_marked(line: str, rest: str) -> bool:
    """Whether a mark stands between a label and the rest: ``B. Because``; ``A dog`` opens with an article."""
    return bool(re.search(r"[)\].,:;\u2013\u2014-]\s*$", line[: len(line) - len(rest)]))


def _opening(line: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    """The label a line opens with, and what follows it; a lower-case letter only where nothing follows."""
    for name, label in _names(options):
        match = re.match(
            rf"[(\[]?{re.escape(name)}(?![\w'\u2019])[)\].,:;]*\s*(?:[-\u2013\u2014]\s+)?", line, re.IGNORECASE
        )
        if match and (match.group().lstrip("([").startswith(name) or not line[match.end() :]):
            return label, line[match.end() :]
    return None, line


def _labels_in(text: str, options: Mapping[str, str]) -> set[str]:
    """Labels that stand in a text as words of their own, in their own case; ``A`` before a word is an article."""
    found = set()
    for name, label in _names(options):
        article = r"(?!\s+\w)" if name == "A" else ""
        if re.search(rf"(?<![\w'\u2019]){re.escape(name)}(?![\w'\u2019]){article}", text):
            found.add(label)
    return found


def _names(options: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """What a label may be called, with the label: itself, and its last word where that is no other's."""
    short = [label.split()[-1] for label in options]
    own = [(label, label) for label in options]
    return own + [(s, label) for s, label in zip(short, options, strict=True) if s != label and short.count(s) == 1]


def _by_text(options: Mapping[str, str]) -> dict[str, str]:
    """The label of each text that is only one option's."""
    plain = [_plain(text) for text in options.values()]
    return {text: label for label, text in zip(options, plain, strict=True) if text and plain.count(text) == 1}


def _plain(text: str) -> str:
    words = _WORD.findall(text.lower())
    while len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    return " ".join(words)
