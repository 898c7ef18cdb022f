"""Which mentions of a sentence are denied, and which say nothing about the picture at all.

Two passes: from the left, every negator opens a scope that ends where English ends it (``no boat | next to the
car``, ``I see no boat, | but a car``); then subjects whose predicate denies them (``the boat is not visible``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vlm_selfalign.scoring.mentions import NUMBERS, Mention
from vlm_selfalign.scoring.words import AUXILIARIES, BE, DETERMINERS, LINKING, Word, clause_starts, text_at, wordset

Scope = Literal["phrase", "list", "clause", "more"]
"""``no X``; ``without / neither X``; ``is not ...``; ``no other X`` (which denies no X)."""

ENDS = wordset("; : \u2014 \u2013 ( ) but although though however while whereas except besides yet only just because")
FAR_NOT = wordset("only just merely simply all every far necessarily exactly sure certain clear unlike")
NOTHING_DENIED = wordset(", . ! longer doubt one matter problem wonder")
LISTERS = wordset("without lacks lacking minus sans")
LISTERS_OF = wordset("absence lack devoid free instead empty")
FAILS = wordset("nothing nobody none unable fails fail failed hardly barely")
PERCEIVE = wordset(
    "see find spot show contain include have detect notice depict display feature exist make identify observe locate"
)
SHOWN = wordset(
    "visible present shown there here depicted pictured seen included found anywhere displayed featured apparent "
    "evident spotted detected existent"
)
PICTURE = wordset("image picture photo photograph scene drawing frame view shot canvas sight illustration")
GONE = wordset("absent missing nowhere invisible nonexistent non-existent")
APPEAR = wordset("appear exist occur show feature")
LOOKS_LIKE = wordset("look looks looking looked seems seem appears something what")
SAYS = wordset("says reads reading saying labeled labelled word words sign text")


def denied(words: Sequence[Word], mentions: Sequence[Mention]) -> set[int]:
    """Indices of the mentions that the sentence says are not there."""
    scopes = _scopes(words)
    found = {i for i, mention in enumerate(mentions) if _in_scope(words, mention, scopes[mention.head])}
    for index in range(len(words)):
        if _denies_subject(words, index, mentions):
            found |= _subjects(words, mentions, index)
    return found


def silent(words: Sequence[Word], mentions: Sequence[Mention]) -> set[int]:
    """Indices of the mentions that assert nothing: questions, likenesses, conditions, quotes, ``no other car``."""
    if words and any(word.text == "?" for word in words[-2:]):
        return set(range(len(mentions)))
    scopes = _scopes(words)
    found: set[int] = set()
    for index, mention in enumerate(mentions):
        follows = mention.joined is not None and mentions.index(mention.joined) in found
        alone = _is_likeness(words, mention) or _is_conditional(words, mention) or _is_quoted(words, mention)
        if alone or scopes[mention.head] == "more" or (follows and mention.first - mention.joined.last <= 3):  # type: ignore[union-attr]
            found.add(index)
    return found


def _scopes(words: Sequence[Word]) -> list[Scope | None]:
    scopes: list[Scope | None] = []
    scope: Scope | None = None
    opened = 0
    for index in range(len(words)):
        if scope and _ends(words, index, opened, scope):
            scope = None
        opener = _opens(words, index)
        if opener:
            scope, opened = opener, index
        scopes.append(scope)
    return scopes


def _opens(words: Sequence[Word], index: int) -> Scope | None:
    text, after, before = words[index].text, text_at(words, index + 1), text_at(words, index - 1)
    if text in ("no", "zero"):
        if after in ("other", "more", "additional", "further"):
            return None if text_at(words, index + 2) == "than" else "more"
        return None if after in NOTHING_DENIED | {"fewer", "less", "shortage", "lack", ""} else "phrase"
    if text in ("neither", "nor"):
        return "clause" if after in AUXILIARIES else None if after == "of" else "list"
    doubled = before in ("not", "no", "never") or before.endswith("n't")
    if text in LISTERS or (text in LISTERS_OF and after == "of") or (text == "rather" and after == "than"):
        return None if doubled or (before == "but" and after == "for") else "list"
    if text == "missing" and (after in DETERMINERS or after in NUMBERS) and not doubled:
        return "list"
    if text in FAILS and after != "of":
        return None if after != "to" and _is_place(words, index + 1) else "clause"
    if text == "not" or text in ("cannot", "never") or text.endswith("n't"):
        return _opened_by_not(words, index)
    return None


def _opened_by_not(words: Sequence[Word], index: int) -> Scope | None:
    after = text_at(words, index + 1)
    if after in FAR_NOT or after in ("miss", "help") or _is_place(words, index + 1):
        return None
    return "more" if after == "another" else "clause"


def _is_place(words: Sequence[Word], index: int) -> bool:
    """Whether ``not`` here only denies a place: ``not next to a house`` does not deny the house."""
    return index < len(words) and (words[index].is_preposition or words[index].text in ("next", "close", "located"))


def _ends(words: Sequence[Word], index: int, opened: int, scope: Scope) -> bool:
    word, after = words[index], text_at(words, index + 1)
    if word.text in ENDS or (word.text in ("other", "apart", "aside") and after in ("than", "from")):
        return True
    if word.text in ("and", ",", "so") and clause_starts(words, index + 1):
        return True
    noun_seen = any(earlier.is_noun for earlier in words[opened + 1 : index])
    if word.text == "and" and scope in ("phrase", "clause") and (after in DETERMINERS or after in NUMBERS):
        return scope == "phrase"
    if word.text == ",":
        return noun_seen and not _list_goes_on(words, index)
    if word.is_preposition and word.text != "to":
        return noun_seen or scope == "phrase"
    return scope != "clause" and noun_seen and word.is_finite


def _list_goes_on(words: Sequence[Word], index: int) -> bool:
    """Whether the comma is inside ``boats, cars, or trees``."""
    rest = []
    for word in words[index + 1 :]:
        if word.text in ENDS or word.is_finite:
            break
        rest.append(word.text)
    return "or" in rest or "nor" in rest or text_at(words, index + 1) == "no"


def _in_scope(words: Sequence[Word], mention: Mention, scope: Scope | None) -> bool:
    if scope is None or scope == "more":
        return False
    if not mention.definite or scope == "phrase":
        return True
    clause = words[mention.head].clause
    around = {word.text for word in words if word.clause == clause}
    if "without" in around or "missing" in around or around & LISTERS:
        return True
    if scope == "list":  # "neither the car nor the boat is red" denies neither; "... is visible" does
        return bool({word.text for word in words} & (SHOWN | PICTURE | PERCEIVE))
    return bool(around & PERCEIVE) or "there" in around


def _denies_subject(words: Sequence[Word], index: int, mentions: Sequence[Mention]) -> bool:
    text, after = words[index].text, text_at(words, index + 1)
    before = text_at(words, index - 1)
    if text in GONE or (text == "out" and after == "of" and text_at(words, index + 2) in ("sight", "view")):
        object_follows = text == "missing" and (after in DETERMINERS or after in NUMBERS)
        doubled = before == "not" or before.endswith("n't") or before == "no"
        return not object_follows and not doubled and any(m.last <= index for m in mentions)
    if text == "none" and text_at(words, index - 2) == "there" and before in BE:
        return True
    if not (text in ("not", "cannot", "never") or text.endswith("n't")):
        return False
    if text == "not" and before not in AUXILIARIES | LINKING:
        return False
    return _is_unseen(words, index)


def _is_unseen(words: Sequence[Word], index: int) -> bool:
    """Whether what follows the negator at ``index`` says "to be seen": ``visible``, ``in the picture``."""
    rest = [word.text for word in words[index + 1 :]]
    while rest and rest[0] in ("be", "currently", "actually", "really", "clearly", "also", "been", "even", "to"):
        rest.pop(0)
    if not rest or rest[0] in (".", ",", ";", "and", "but", "though", "however", "!"):
        return bool({word.text for word in words[:index]} & SHOWN)
    if rest[0] in SHOWN | APPEAR:
        # "does not show a boat": what is denied is the object, not the subject.
        return (rest[0] != "show" and not (len(rest) > 1 and rest[1] in {"a", "an", "any"})) or rest[1:2] == ["up"]
    if rest[0] in ("in", "on") and len(rest) > 1:
        return bool(set(rest[1:3]) & PICTURE)
    return rest[:2] == ["part", "of"]


def _subjects(words: Sequence[Word], mentions: Sequence[Mention], index: int) -> set[int]:
    """The mentions that are the subject of the predicate at ``index``: before it, in its clause, in no place phrase."""
    clause = words[index].clause
    before = [i for i, m in enumerate(mentions) if m.last <= index and words[m.head].clause == clause]
    return {i for i in before if not mentions[i].placed} or set(before[-1:])


def _is_likeness(words: Sequence[Word], mention: Mention) -> bool:
    before, earlier = text_at(words, mention.start - 1), text_at(words, mention.start - 2)
    if before == "like":
        things = mention.start >= 2 and words[mention.start - 2].tag == "NNS"
        return earlier not in LOOKS_LIKE and not things
    if before == "as":
        return "as" in [text_at(words, mention.start - back) for back in (3, 4)]
    if before == "of":
        return earlier in ("shape", "form", "size", "outline") or text_at(words, mention.start - 3) == "reminiscent"
    if before == "than":
        return not mention.definite and earlier not in ("other", "rather", "more", "fewer", "less")
    return before in ("resembling", "resembles", "resemble")


def _is_conditional(words: Sequence[Word], mention: Mention) -> bool:
    clause = words[mention.head].clause
    before = [word.text for word in words[: mention.first] if word.clause == clause]
    if "whether" in before:
        return True
    return "if" in before and "there" in before[before.index("if") : before.index("if") + 2]


def _is_quoted(words: Sequence[Word], mention: Mention) -> bool:
    marks = ('"', "\u201c", "\u201d", "'", "\u2018")
    before, after = text_at(words, mention.first - 1), text_at(words, mention.last)
    return before in marks and after in marks and text_at(words, mention.first - 2) in SAYS
