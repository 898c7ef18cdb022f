"""English text as tagged words with their characters, cut into clauses; the ground that claims are read on.

Penn tags come from textblob's bundled lexicon and rules: offline, no data to download.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlm_selfalign.core.rows import Span


def wordset(line: str) -> frozenset[str]:
    """The words of a line, as a set."""
    return frozenset(line.split())


_WORD = re.compile(r"\w+n['\u2019]t\b|['\u2019](?:s|re|ve|ll|d|m)\b|\d+(?:\.\d+)?|\w+(?:-\w+)*|[^\w\s]", re.IGNORECASE)

DETERMINERS = wordset("a an the this that these those its his her their my your our some any each every another both")
DEFINITE = wordset("the this that these those its his her their my your our both")
BE = wordset("is are was were be been being 's 're isn't aren't wasn't weren't")
LINKING = BE | wordset("looks look appears appear seems seem remains stays becomes")
AUXILIARIES = BE | wordset("do does did can could will would has have had 've may might must should shall")
POSITIONS = wordset("left right top bottom front back middle center centre side corner next close near top-left")
STARTERS = wordset("there here it they we i you he she this that these those")
JOINERS = frozenset(("and", "or", "nor", "but", ",", "&", "plus", "/"))
BOUNDARIES = frozenset(
    (";", ":", "\u2014", "\u2013", "but", "although", "though", "while", "whereas", "yet", "because", "since")
)


@dataclass(frozen=True)
class Word:
    """A word or mark: lower case with straight apostrophes, where it stands in the text, its Penn tag, its clause."""

    text: str
    start: int
    end: int
    tag: str
    clause: int = 0

    @property
    def is_noun(self) -> bool:
        """Whether it is tagged as any noun."""
        return self.tag.startswith("NN")

    @property
    def is_finite(self) -> bool:
        """Whether it is a verb that can carry a clause."""
        return self.tag in ("VBZ", "VBP", "VBD", "VB", "MD") or self.text in AUXILIARIES or self.text.endswith("n't")

    @property
    def is_preposition(self) -> bool:
        """Whether it begins a place or the like; ``of`` and ``to be`` do not."""
        return (self.tag in ("IN", "TO") or self.text in PREPOSITIONS) and self.text not in NO_PREPOSITIONS


PREPOSITIONS = wordset(
    "in on at near by beside behind above below under beneath over around between among inside outside next against "
    "along across through toward towards within underneath atop upon onto into with from alongside opposite to"
)
NO_PREPOSITIONS = wordset("of that like as than if whether because while although though whereas without so")


def words_of(text: str, span: Span | None = None, verbs: frozenset[str] = frozenset()) -> list[Word]:
    """The tagged words of a text, or of one span of it (a sentence); ``verbs`` are no nouns right after one."""
    start, end = span or (0, len(text))
    found = list(_WORD.finditer(text, start, end))
    tokens = [match.group().lower().replace("\u2019", "'") for match in found]
    tags = _tags(tokens)
    for index in range(1, len(tags)):
        if tokens[index] in verbs and tags[index].startswith("NN") and tags[index - 1].startswith(("NN", "PRP")):
            tags[index] = "VBZ"
    words = [Word(t, m.start(), m.end(), tag) for t, m, tag in zip(tokens, found, tags, strict=True)]
    return _with_clauses(words)


def _tags(tokens: Sequence[str]) -> list[str]:
    # Imported here because textblob brings all of nltk: over a second that --help must not pay.
    from textblob.en import parser

    known = [_tagged_as(token) for token in tokens]
    return [tag for _, tag in parser.find_tags(known)] if known else []


def _tagged_as(token: str) -> str:
    """The word whose tag to take: contractions are not in the lexicon and would become nouns."""
    if token.endswith("n't"):
        return {"can't": "can", "won't": "will"}.get(token, token[:-3])
    return {"'s": "is", "'re": "are", "'ve": "have", "'ll": "will", "'d": "would", "'m": "am"}.get(token, token)


def _with_clauses(words: list[Word]) -> list[Word]:
    clause, numbered = 0, []
    for index, word in enumerate(words):
        if word.text in BOUNDARIES or (word.text in ("and", ",", "so", "nor") and clause_starts(words, index + 1)):
            clause += 1
        numbered.append(Word(word.text, word.start, word.end, word.tag, clause))
    return numbered


def clause_starts(words: Sequence[Word], index: int) -> bool:
    """Whether a subject with its verb begins here: ``there is``, ``it shows``, ``the red car stands``."""
    while index < len(words) and (words[index].tag == "RB" or words[index].text in ("and", "instead", "then")):
        index += 1
    if index + 1 >= len(words):
        return False
    if words[index].text in STARTERS and words[index + 1].is_finite:
        return True
    if words[index].text not in DETERMINERS | {"no", "neither"}:
        return False
    index += 1
    while index < len(words) and (words[index].is_noun or words[index].tag in ("JJ", "CD", "VBN", "VBG", "DT")):
        index += 1
    return index < len(words) and words[index].is_finite and words[index - 1].text not in DETERMINERS


def text_at(words: Sequence[Word], index: int) -> str:
    """The word at an index, empty beyond either end."""
    return words[index].text if 0 <= index < len(words) else ""
