"""In which order a text says that things happened, which need not be the order of its words.

``Before the ball appears, the car moves`` and ``the ball appears after the car moves`` both put the car first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from vlm_selfalign.core.rows import Span
from vlm_selfalign.scoring.words import Word, text_at, wordset

Relation = Literal["", "after", "before", "while"]

CONNECTORS: dict[str, Relation] = {
    "after": "after",
    "once": "after",
    "before": "before",
    "until": "before",
    "while": "while",
    "whilst": "while",
    "when": "while",
    "as": "while",
}
"""Words that open a subordinate clause, and how it lies in time to the main one."""

ONWARD = wordset("then finally afterwards later eventually lastly")
TOGETHER = wordset("meanwhile simultaneously concurrently")
BACK = wordset("earlier previously beforehand")


@dataclass(frozen=True)
class Place:
    """Where a verb stands: its clause's relation to the main clause, and whether that clause comes ``ahead`` of it."""

    relation: Relation = ""
    ahead: bool = False
    together: bool = False
    back: bool = False


def places(words: Sequence[Word], verbs: Sequence[Span]) -> list[Place]:
    """The place of every verb (as a range of words) of a sentence."""
    openers = [i for i, word in enumerate(words) if word.text in CONNECTORS and _opens(words, i, verbs)]
    back, together = _back(words), bool(TOGETHER & {word.text for word in words}) or _at_the_same_time(words)
    found = []
    for number, (first, _) in enumerate(verbs):
        opener = max((i for i in openers if i < first), default=None)
        if opener is None or _closed(words, opener, verbs, number):
            found.append(Place(together=together, back=back))
        else:
            ahead = not any(start < opener for start, _ in verbs)
            found.append(Place(CONNECTORS[words[opener].text], ahead))
    return found


def _opens(words: Sequence[Word], index: int, verbs: Sequence[Span]) -> bool:
    """Whether a clause with one of the verbs follows: ``after that,`` opens none."""
    end = next((i for i in range(index + 1, len(words)) if words[i].text in (",", ";") or i in _openers(words)), None)
    inside = any(index < first and (end is None or first < end) for first, _ in verbs)
    if text_at(words, index + 1) in ("that", "this"):
        return False
    if words[index].text == "as":
        return inside and text_at(words, index + 1) in wordset("the a an it they soon")
    return inside


def _openers(words: Sequence[Word]) -> set[int]:
    return {i for i, word in enumerate(words) if word.text in CONNECTORS and word.text != "as"}


def _closed(words: Sequence[Word], opener: int, verbs: Sequence[Span], number: int) -> bool:
    """Whether the clause that ``opener`` opened is over before this verb."""
    first = verbs[number][0]
    inner = [start for start, _ in verbs if opener < start]
    if first == inner[0]:
        return False
    between = words[inner[0] : first]
    if not any(start < opener for start, _ in verbs):  # it came ahead: a comma ends it
        return any(word.text in (",", ";") for word in between) or any(word.text in ONWARD for word in between)
    return any(word.text in ONWARD | {";"} for word in between)


def _back(words: Sequence[Word]) -> bool:
    """``Before that, ...``, ``Earlier, ...``"""
    opening = [word.text for word in words[:5]]
    that = any(opening[i : i + 2] in (["before", "that"], ["before", "this"]) for i in range(len(opening)))
    return that or (bool(BACK & set(opening[:2])) and "than" not in opening)


def _at_the_same_time(words: Sequence[Word]) -> bool:
    said = [word.text for word in words]
    return any(said[i : i + 4] == ["at", "the", "same", "time"] for i in range(len(said)))


@dataclass
class Timeline:
    """Groups of claims in the order they are said to have happened; those of a group at the same time."""

    groups: list[list[int]] = field(default_factory=list)
    _sentence: int = 0
    """Where the groups of the present sentence begin."""
    _before: int = 0
    """The same of the sentence before it."""
    _main_at: int | None = None
    _joins: bool = False

    def new_sentence(self) -> None:
        """What follows is said in another sentence."""
        self._before, self._sentence = self._sentence, len(self.groups)
        self._main_at, self._joins = None, False

    def add(self, claims: list[int], place: Place) -> None:
        """Put the next claims, all at one time, where their clause says."""
        if not claims:
            return
        started = len(self.groups) > self._sentence
        if place.relation:
            self._add_subordinate(claims, place, started)
        elif self._joins or (place.together and self.groups and not started):
            self.groups[-1] += claims
            self._joins = False
        elif self._main_at is not None or (place.back and not started):
            at = self._before if self._main_at is None else self._main_at
            self.groups.insert(at, claims)
            self._main_at = at + 1
        else:
            self.groups.append(claims)

    def _add_subordinate(self, claims: list[int], place: Place, started: bool) -> None:
        if place.relation == "while" and started and not place.ahead:
            self.groups[-1] += claims
        elif place.relation == "after" and not place.ahead:
            self.groups.insert(self._sentence, claims)
            self._sentence += 1
        else:
            if place.ahead and place.relation == "before" and self._main_at is None:
                self._main_at = len(self.groups)
            self.groups.append(claims)
            self._joins = place.ahead and place.relation == "while"

    def ranks(self) -> dict[int, int]:
        """When each claim happened, from 0."""
        return {claim: rank for rank, group in enumerate(self.groups) for claim in group}
