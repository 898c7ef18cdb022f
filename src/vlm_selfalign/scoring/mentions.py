"""Where a sentence names things: the noun phrases whose head is a kind of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vlm_selfalign.scoring.vocabulary import Vocabulary, singular
from vlm_selfalign.scoring.words import DEFINITE, DETERMINERS, POSITIONS, Word, text_at, wordset

_COUNTED = "zero one two three four five six seven eight nine ten eleven twelve"

NUMBERS = {word: number for number, word in enumerate(_COUNTED.split())} | {
    "dozen": 12,
    "a": 1,
    "an": 1,
    "single": 1,
    "another": 1,
    "pair": 2,
    "couple": 2,
    "both": 2,
}

PORTIONS = wordset("slice slices piece pieces half halves wedge wedges chunk chunks")
"""Nouns that leave the thing what it is: apple slices are apple."""


@dataclass
class Mention:
    """One noun phrase: its kind, words ``first``..``last`` of the name, and where it starts, determiner included.

    ``joined`` is the mention that it continues ("a car AND a boat"), None for the first of a list.
    """

    kind: str
    first: int
    last: int
    plural: bool
    start: int
    colour: str | None = None
    count: int | None = None
    definite: bool = False
    placed: bool = False
    """Whether it only says where something else is ("next to THE HOUSE")."""
    joined: Mention | None = field(default=None, repr=False)

    @property
    def head(self) -> int:
        """Index of the last word of the name."""
        return self.last - 1


def find_mentions(words: Sequence[Word], vocabulary: Vocabulary) -> list[Mention]:
    """All mentions of a sentence in order, with what their own noun phrase says of colour and number."""
    mentions: list[Mention] = []
    found = _open_names(words, vocabulary) if vocabulary.is_open else _closed_names(words, vocabulary)
    for kind, first, last, many in found:
        after = mentions[-1].last if mentions else 0
        if mentions and first == after and words[first].text.endswith("s") and not mentions[-1].plural:
            continue  # "a man skis": right after a singular, a plural is a verb
        mention = Mention(kind, first, last, many, start=_phrase_start(words, first, after, vocabulary))
        _read_phrase(words, mention, vocabulary)
        if mentions and _joins(words, mentions[-1], mention):
            mention.joined = mentions[-1]
        mention.placed = _is_placed(words, mention)
        mentions.append(mention)
    return mentions


def colour_in(word: str, vocabulary: Vocabulary) -> str | None:
    """The colour a word names, also inside ``red-coloured`` or ``light-blue``."""
    colours = vocabulary.colour_of
    return next((colours[part] for part in (word, *word.split("-")) if part in colours), None)


Name = tuple[str, int, int, bool]
"""Kind, first word, word after the last, plural."""


def _closed_names(words: Sequence[Word], vocabulary: Vocabulary) -> Iterator[Name]:
    index = 0
    while index < len(words):
        name = _longest_name(words, index, vocabulary)
        if name[0] and not _is_no_noun(words, name, vocabulary):
            yield name
        index = name[2]


def _longest_name(words: Sequence[Word], index: int, vocabulary: Vocabulary) -> Name:
    for length in range(min(vocabulary.longest, len(words) - index), 0, -1):
        parts = " ".join(word.text for word in words[index : index + length])
        for form in (parts, parts.replace("-", " ")):
            phrase = vocabulary.phrases.get(tuple(form.split()))
            verb = phrase and phrase.plural and not phrase.kind and text_at(words, index - 1) in ("a", "an")
            if phrase is not None and not verb:  # "a bus stops" is no bus stop
                return phrase.kind, index, index + length, phrase.plural
    return "", index, index + 1, False


def _open_names(words: Sequence[Word], vocabulary: Vocabulary) -> Iterator[Name]:
    for index, word in enumerate(words):
        if not word.is_noun or len(word.text) < 3 or not word.text[0].isalpha() or word.text.endswith("n't"):
            continue
        one = singular(word.text)
        goes_on = index + 1 < len(words) and words[index + 1].is_noun and words[index + 1].text not in POSITIONS
        if goes_on or one in vocabulary.others or word.text in vocabulary.others or colour_in(word.text, vocabulary):
            continue
        yield one, index, index + 1, word.tag == "NNS"


def _is_no_noun(words: Sequence[Word], name: Name, vocabulary: Vocabulary) -> bool:
    """Whether the word is a verb, a colour, or only modifies the noun that follows."""
    _, first, last, many = name
    before = words[first - 1] if first else None
    if (
        words[first].tag.startswith("VB")
        and before
        and (before.tag in ("PRP", "NN", "NNS", "MD") or before.text == "to")
    ):
        return True
    if colour_in(words[first].text, vocabulary) and last - first == 1 and not many:
        joined = text_at(words, last) == "and" and colour_in(text_at(words, last + 1), vocabulary)
        if joined or not before or before.text not in DETERMINERS | {"no", "of", "fresh", "ripe", "one", "peeled"}:
            return True
    return not many and last < len(words) and _heads(words, last)


def _heads(words: Sequence[Word], index: int) -> bool:
    """Whether the word here is a noun that takes the one before as its modifier (``car DOOR``)."""
    from textblob.en import parser

    word = words[index]
    if not word.is_noun or word.text in POSITIONS | PORTIONS or not word.text[0].isalpha() or word.text.endswith("n't"):
        return False
    if word.tag != "NNS":
        return True
    # "a car doors" is no English, so what follows "a car" in -s is a verb that the tagger took for a plural.
    single = any(text_at(words, index - back) in ("a", "an", "one", "another", "each") for back in (2, 3, 4))
    known_verb = (parser.lexicon.get(word.text[:-1]) or "VB").startswith("VB")
    goes_on = index + 1 < len(words) and words[index + 1].tag in ("IN", "TO", "DT", "PRP$", "RB")
    return not (single or known_verb or goes_on)


def _phrase_start(words: Sequence[Word], first: int, after: int, vocabulary: Vocabulary) -> int:
    index = first
    while index > after:
        word = words[index - 1]
        if word.text in DETERMINERS or word.text == "no":
            return _counted(words, index - 1)
        if word.text in (",", "and") and index < first and index - 1 > after:
            if not _is_adjective(words[index - 2], vocabulary) or not _is_adjective(words[index], vocabulary):
                return index
        elif not _is_adjective(word, vocabulary) and not (word.is_noun and index - 1 > after):
            return index
        index -= 1
    return index


def _counted(words: Sequence[Word], index: int) -> int:
    """The phrase may start earlier: ``two OF THE cars``, ``both THE cars``."""
    return index - 1 if text_at(words, index - 1) in ("both", "all") else index


def _is_adjective(word: Word, vocabulary: Vocabulary) -> bool:
    if word.text in ("next", "other"):
        return False
    if word.tag in ("JJ", "JJR", "JJS", "CD", "VBN", "VBG") or word.text in NUMBERS:
        return True
    return colour_in(word.text, vocabulary) is not None or (word.tag == "RB" and word.text.endswith("ly"))


def _read_phrase(words: Sequence[Word], mention: Mention, vocabulary: Vocabulary) -> None:
    before = words[mention.start : mention.first]
    mention.colour = next((c for word in before if (c := colour_in(word.text, vocabulary))), None)
    mention.definite = any(word.text in DEFINITE for word in before)
    mention.count = _count(words, mention, [word.text for word in before])


def _count(words: Sequence[Word], mention: Mention, before: list[str]) -> int | None:
    numbers = [int(w) if w.isdigit() else NUMBERS[w] for w in before if w.isdigit() or w in NUMBERS]
    if text_at(words, mention.start - 1) == "of" and text_at(words, mention.start - 2) in ("pair", "couple", "dozen"):
        numbers = [NUMBERS[text_at(words, mention.start - 2)]]
    if numbers and (not mention.plural or numbers[-1] > 1):
        return numbers[-1]
    return None


def _joins(words: Sequence[Word], earlier: Mention, later: Mention) -> bool:
    between = {word.text for word in words[earlier.last : later.start]}
    same_clause = words[earlier.head].clause == words[later.first].clause
    return (
        same_clause and bool(between) and between <= {",", "and", "or", "nor", "&", "plus", "also", "as", "well", "no"}
    )


def _is_placed(words: Sequence[Word], mention: Mention) -> bool:
    if mention.joined is not None:
        return mention.joined.placed
    if mention.start == 0:
        return False
    before = words[mention.start - 1]
    return before.is_preposition or (before.text == "of" and text_at(words, mention.start - 2) in POSITIONS | {"front"})
