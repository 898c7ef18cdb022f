"""The clauses of a sentence that tell events: the verb, who does it, which way, with whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from vlm_selfalign.core.rows import Span
from vlm_selfalign.scoring.colours import group
from vlm_selfalign.scoring.event_order import CONNECTORS
from vlm_selfalign.scoring.event_words import EventWords, Form
from vlm_selfalign.scoring.mentions import Mention, colour_in, find_mentions
from vlm_selfalign.scoring.negation import denied, silent
from vlm_selfalign.scoring.vocabulary import Vocabulary
from vlm_selfalign.scoring.words import JOINERS, Word, text_at, wordset

PRONOUNS = wordset("it they both one")
OWNERS = wordset("a an the its his her their my your our")
NEGATORS = wordset("not never cannot without no neither nor nothing")
FILLERS = wordset(
    "that which who , to then also now first next finally slowly quickly suddenly gradually smoothly briefly soon both "
    "all each starts start started begins begin began starting continues continue seems seem seen can could will be "
    "being been is are was were 's 're has have had does do did just immediately eventually again still back not never "
    "cannot stops stop stopped keeps keep gets get does not on straight directly"
)
ORDINALS = wordset("next first last second again")
OPENERS = wordset("with by")
AT_A_PLACE = wordset("on in at from")


@dataclass(frozen=True)
class Subject:
    """Who does it; ``mention`` is its index in the sentence, None for a pronoun or what a verb shares with another."""

    kind: str
    mention: int | None = None


@dataclass
class Clause:
    """One verb with all that was found around it; ``ways`` are directions, each with the word after it."""

    first: int
    last: int
    form: Form
    subjects: list[Subject] = field(default_factory=list)
    ways: list[tuple[str | None, int]] = field(default_factory=list)
    other: str | None = None
    negated: bool = False
    after: int = 0
    """Where the clause told before it ends."""

    @property
    def span(self) -> Span:
        """The verb, as a range of words."""
        return self.first, self.last

    @property
    def end(self) -> int:
        """The word after all of it."""
        return max([self.last, *(last for _, last in self.ways)])


@dataclass
class Sentence:
    """The words of a sentence with their mentions, and the kinds that a pronoun in it stands for."""

    words: Sequence[Word]
    mentions: Sequence[Mention]
    events: EventWords
    known: Sequence[Subject]

    def clauses(self, verbs: Sequence[Clause]) -> list[Clause]:
        """The verbs with a subject (and whom they meet, where they need it), each told once."""
        told: list[Clause] = []
        for number, clause in enumerate(verbs):
            until = verbs[number + 1].first if number + 1 < len(verbs) else len(self.words)
            kind = self.events.actions[clause.form.action]
            clause.after = told[-1].end if told else 0
            clause.subjects = self._subjects(clause, told[-1] if told else None)
            clause.ways = self._ways(clause, until)
            clause.negated = clause.form.negated or self._is_denied(clause, told[-1] if told else None)
            if kind.with_other:
                self._find_other(clause, until)
            if not clause.subjects or (kind.with_other and clause.other is None):
                continue
            if told and kind.implies == told[-1].form.action and self._goes_on(told[-1], clause):
                told.pop()
            told.append(clause)
        return told

    def _subjects(self, clause: Clause, before: Clause | None) -> list[Subject]:
        floor = before.end if before else 0
        here = [m for m in self.mentions if floor <= m.start and m.last <= clause.first]
        main = [m for m in here if not self._placed(m)]
        near = here[-1] if here and self._only_fillers(here[-1].last, clause.first) else None
        if near is not None and (near in main or not main):
            return self._named(near, here, clause)
        if before or any(word.text in PRONOUNS for word in self.words[floor : clause.first]):
            return [replace(subject, mention=None) for subject in (before.subjects if before else self.known)]
        if main:
            return self._named(main[-1], main, clause)
        after = next((m for m in self.mentions if clause.last <= m.start <= clause.last + 1), None)
        inverted = after is not None and not self.events.actions[clause.form.action].directed
        return self._named(after, [after], clause) if inverted and after else []

    def _named(self, mention: Mention, here: Sequence[Mention], clause: Clause) -> list[Subject]:
        """The mention, and those that are joined with it where the verb is no singular (``a car and a boat MOVE``)."""
        single = self.words[clause.first].text.endswith("s")
        members = [m for m in group(mention, here) if m in here] if single else [*self._joined(mention, here), mention]
        return [Subject(m.kind, self.mentions.index(m)) for m in members]

    def _joined(self, mention: Mention, here: Sequence[Mention]) -> list[Mention]:
        before = next((m for m in reversed(here) if m.last <= mention.start), None)
        between = self.words[before.last : mention.start] if before else ()
        if before is None or not between or not all(word.text in JOINERS | {"then"} for word in between):
            return []
        return [] if self._placed(before) else [*self._joined(before, here), before]

    def _placed(self, mention: Mention) -> bool:
        """Whether it only says where something else is; after ``before`` or ``with`` a clause of its own begins."""
        return mention.placed and text_at(self.words, mention.start - 1) not in CONNECTORS.keys() | OPENERS

    def _only_fillers(self, start: int, end: int) -> bool:
        return all(word.text in FILLERS or word.tag.startswith("RB") for word in self.words[start:end])

    def _ways(self, clause: Clause, until: int) -> list[tuple[str | None, int]]:
        if clause.form.direction or not self.events.actions[clause.form.action].directed:
            return [(clause.form.direction, clause.last)]
        return list(_directions(self.words, clause.last, until, self.events)) or [(None, clause.last)]

    def _find_other(self, clause: Clause, until: int) -> None:
        met = next((m for m in self.mentions if clause.last <= m.start <= clause.last + 1 and m.last <= until), None)
        if met is not None:
            clause.other = met.kind
            clause.ways = [(clause.ways[0][0], met.last)]
        elif text_at(self.words, clause.last) in PRONOUNS | {"them"}:
            mine = {subject.kind for subject in clause.subjects}
            clause.other = next((m.kind for m in reversed(self._before(clause.first)) if m.kind not in mine), None)
        elif len(clause.subjects) == 2:  # "the car and the boat meet"
            clause.other = clause.subjects.pop().kind

    def _before(self, index: int) -> list[Mention]:
        return [mention for mention in self.mentions if mention.last <= index]

    def _goes_on(self, before: Clause, clause: Clause) -> bool:
        """``moves left and meets the cup`` is one event; takes over the direction."""
        named_again = any(subject.mention is not None for subject in clause.subjects)
        if named_again or clause.ways[0][0] or before.negated or clause.negated or len(before.ways) > 1:
            return False
        clause.ways = [(before.ways[0][0], clause.ways[0][1])]
        clause.first = before.first
        return True

    def _is_denied(self, clause: Clause, before: Clause | None) -> bool:
        own = [s.mention for s in clause.subjects if s.mention is not None]
        floor = self.mentions[own[0]].start if own else clause.after
        between = self.words[max(0, floor - 1) : clause.first]
        if any(word.text in NEGATORS or word.text.endswith("n't") for word in between):
            return True
        # What an earlier verb's "not" reaches over "and" is no denial of this one.
        return before is None and bool(denied(self.words, self.mentions) & set(own))


def read_sentence(
    words: Sequence[Word], vocabulary: Vocabulary, events: EventWords, known: Sequence[Subject]
) -> tuple[list[Clause], list[Subject]]:
    """The clauses of a sentence that tell events, and whom a pronoun after it stands for."""
    verbs = list(_verbs(words, events, vocabulary))
    words = _as_verbs(words, [verb.first for verb in verbs])
    mentions = find_mentions(words, vocabulary)
    mute = silent(words, mentions)
    clauses = Sentence(words, mentions, events, known).clauses(verbs)
    clauses = [clause for clause in clauses if not any(s.mention in mute for s in clause.subjects)]
    if clauses:
        return clauses, clauses[-1].subjects
    gone = denied(words, mentions) | mute
    main = [m for i, m in enumerate(mentions) if not m.placed and i not in gone]
    return [], [Subject(m.kind) for m in group(main[-1], main)] if main else list(known)


def _verbs(words: Sequence[Word], events: EventWords, vocabulary: Vocabulary) -> Iterator[Clause]:
    """The verbs of the vocabulary, the longest phrase at each place; a question has none."""
    index = len(words) if words and words[-1].text == "?" else 0
    while index < len(words):
        length, form = _longest(words, index, events)
        if form and form.action and not _is_no_verb(words, index, index + length, vocabulary, events):
            yield Clause(index, index + length, form)
        index += length


def _longest(words: Sequence[Word], index: int, events: EventWords) -> tuple[int, Form | None]:
    for length in range(min(events.longest, len(words) - index), 0, -1):
        form = events.forms.get(tuple(word.text for word in words[index : index + length]))
        if form is not None:
            return length, form
    return 1, None


def _is_no_verb(words: Sequence[Word], first: int, last: int, vocabulary: Vocabulary, events: EventWords) -> bool:
    """``its moves``; ``appears to move`` (the other verb counts), ``appears red``, ``appears as a dot``."""
    after = words[last] if last < len(words) else None
    if text_at(words, first - 1) in OWNERS:
        return True
    if after is None or last - first > 1 or not words[first].text.startswith("appear"):
        return False
    if after.text == "as":  # "appears as the car moves" opens a clause
        return not any(_longest(words, index, events)[1] for index in range(last + 1, len(words)))
    described = after.tag.startswith("JJ") and after.text not in ORDINALS
    return after.text in ("like", "to") or described or colour_in(after.text, vocabulary) is not None


def _as_verbs(words: Sequence[Word], places: Sequence[int]) -> list[Word]:
    """The words with these tagged as verbs: after a noun the tagger takes "moves" for a plural."""
    return [replace(w, tag="VBZ") if i in places and w.tag[:2] != "VB" else w for i, w in enumerate(words)]


def _directions(words: Sequence[Word], start: int, until: int, events: EventWords) -> Iterator[tuple[str, int]]:
    """The directions said between two words: ``from left to right`` is right, ``on the left`` is none."""
    for index in range(start, until):
        way = events.direction_of.get(words[index].text)
        before = text_at(words, index - 1)
        before = text_at(words, index - 2) if before == "the" else before
        diagonal = text_at(words, index + 1) in events.direction_of or text_at(words, index - 1) in events.direction_of
        place = before in AT_A_PLACE or (text_at(words, index + 1) == "of" and text_at(words, index + 2) != "the")
        if way and not place and not diagonal:
            yield way, index + 1
