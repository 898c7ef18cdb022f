"""Colours said after the thing: ``the car is red``, ``a car in red``, ``It is blue.``, ``a car and a boat, both red``.

The colour is the anchor: walking left from it finds the thing, or the verb whose subject the thing is.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlm_selfalign.scoring.mentions import Mention, colour_in
from vlm_selfalign.scoring.vocabulary import Vocabulary
from vlm_selfalign.scoring.words import BE, LINKING, POSITIONS, Word, text_at, wordset

FILLERS = wordset(
    "very bright brightly dark darker light deep pale mostly mainly all both completely entirely a an the of "
    "them in and with colour color colored coloured painted drawn shown rendered tinted , ( also each are which two "
    "three has have having"
)
PRONOUNS = wordset("it they both its their them this that these those all")
GENERIC = wordset("object objects thing things item items shape shapes something one ones other")
GROUPING = wordset("both all each")
DENIERS = wordset("not never isn't aren't wasn't weren't neither nor")
COLOUR = frozenset(("colour", "color", "colours", "colors"))


def add_colours(
    words: Sequence[Word], mentions: Sequence[Mention], earlier: Sequence[Mention], vocabulary: Vocabulary
) -> None:
    """Give mentions the colours that the sentence predicates of them.

    ``earlier`` are the asserted mentions of the last sentence that had any: what a pronoun may stand for.
    """
    for index, word in enumerate(words):
        colour = colour_in(word.text, vocabulary)
        if (
            colour is None
            or any(m.start <= index < m.last for m in mentions)
            or _colours_another(words, index, vocabulary)
        ):
            continue
        for mention in _coloured(words, index, mentions, earlier, vocabulary):
            mention.colour = mention.colour or colour


def _colours_another(words: Sequence[Word], index: int, vocabulary: Vocabulary) -> bool:
    """Whether the colour belongs to a noun outside the vocabulary (``a man in a red COAT``)."""
    after = index + 1
    while after < len(words) and (
        colour_in(words[after].text, vocabulary) or words[after].text == "and" or words[after].tag == "JJ"
    ):
        after += 1
    plain = COLOUR | GENERIC | POSITIONS
    return after < len(words) and words[after].is_noun and words[after].text not in plain


def _coloured(
    words: Sequence[Word], index: int, mentions: Sequence[Mention], earlier: Sequence[Mention], vocabulary: Vocabulary
) -> Sequence[Mention]:
    forward = _named_next(words, index, mentions)
    if forward:
        return [forward]
    anchor, passed = _anchor(words, index, mentions, vocabulary)
    if (
        DENIERS & {word.text for word in words[:index] if word.clause == words[index].clause}
        or text_at(words, 0) in DENIERS
    ):
        return []
    heads = [m for m in mentions if m.head == anchor]
    if heads:
        return group(heads[0], mentions) if passed & GROUPING else heads
    if text_at(words, anchor) in LINKING:
        return _subject(words, anchor, mentions, earlier)
    if passed & GROUPING and anchor < 0:
        return _last_group(earlier)
    return []


def _named_next(words: Sequence[Word], index: int, mentions: Sequence[Mention]) -> Mention | None:
    """``The red object is a car``, ``something blue: a boat``, ``red is the colour of the car``."""
    after = next((m for m in mentions if m.first > index), None)
    if after is None or words[after.head].clause > words[index].clause + 1:
        return None
    if any(index > m.last and m.last > 0 and words[m.head].clause == words[index].clause for m in mentions):
        return None
    generic = text_at(words, index + 1) in GENERIC or text_at(words, index - 1) in GENERIC
    linked = text_at(words, after.start - 1) in BE | {":", ",", "-", "\u2014"}
    opens = text_at(words, index + 1) in BE and not any(m.last <= index for m in mentions)
    if opens and index == 0:
        return after
    return after if generic and linked else None


def _anchor(
    words: Sequence[Word], index: int, mentions: Sequence[Mention], vocabulary: Vocabulary
) -> tuple[int, set[str]]:
    """Walk left over what may stand between a colour and what it colours; where that is, and the words passed."""
    heads = {m.head for m in mentions}
    passed: set[str] = set()
    while (index := index - 1) >= 0 and index not in heads:
        text = words[index].text
        if text not in FILLERS and colour_in(text, vocabulary) is None and words[index].tag != "RB":
            break
        if text in LINKING:
            break
        passed.add(text)
    return index, passed


def _subject(
    words: Sequence[Word], verb: int, mentions: Sequence[Mention], earlier: Sequence[Mention]
) -> Sequence[Mention]:
    clause = words[verb].clause
    before = [m for m in mentions if m.last <= verb]
    here = [m for m in before if words[m.head].clause == clause]
    said = text_at(words, verb - 1)
    if said in ("that", "which") and before:
        return group(before[-1], mentions) if text_at(words, verb) == "are" and not before[-1].plural else before[-1:]
    if said == "one" or ("one" in (text_at(words, verb - 2), text_at(words, verb - 3)) and said == "them"):
        return []
    if here and not _is_pronoun(words, verb):
        main = [m for m in here if not m.placed and not _owns(words, m, here)]
        return main or here[:1]
    known = before or list(earlier)
    many = text_at(words, verb) in ("are", "were", "look", "appear", "'re", "seem", "aren't")
    if many:
        return _last_group(known)
    return _last_main(known)


def _owns(words: Sequence[Word], mention: Mention, others: Sequence[Mention]) -> bool:
    """Whether it is only the owner of the next one (``the MAN's tie is blue``)."""
    return text_at(words, mention.last) == "'s" and any(m.start == mention.last + 1 for m in others)


def _is_pronoun(words: Sequence[Word], verb: int) -> bool:
    said, before = text_at(words, verb - 1), text_at(words, verb - 2)
    return said in PRONOUNS - {"that"} or (said in COLOUR and before in ("its", "their")) or said in GENERIC


def _last_main(mentions: Sequence[Mention]) -> Sequence[Mention]:
    main = [m for m in mentions if not m.placed] or list(mentions)
    return main[-1:]


def _last_group(mentions: Sequence[Mention]) -> Sequence[Mention]:
    last = _last_main(mentions)
    if not last or last[0].plural:
        return last
    return group(last[0], mentions)


def group(mention: Mention, mentions: Sequence[Mention]) -> list[Mention]:
    """The mentions that are joined with this one by ``and``."""
    root = mention
    while root.joined is not None:
        root = root.joined
    members = [root]
    for other in mentions:
        if other.joined is not None and any(other.joined is member for member in members):
            members.append(other)
    return members
