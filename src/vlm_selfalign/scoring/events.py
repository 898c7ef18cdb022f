"""What a text says happens in a clip, read out of free English: who does what, which way, with whom, in which order.

::

    words = Vocabulary.load("world"), EventWords.load("world")
    read_events("The red car moves to the left. Before that a ball appears.", *words)
    # "car moves left" (when=1), "ball appears" (when=0)

Reading follows rules over tagged words, like ``claims``: questions and conditions claim nothing, "does not move" and
"no car moves" deny. An event claim is a claim: ``kind`` is its name, with its characters, its sentence and whether it
is negated, so that whatever counts, asks back or balances claims about objects does the same with events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlm_selfalign.core.records import Record
from vlm_selfalign.scoring.claims import HEDGES
from vlm_selfalign.scoring.event_clauses import Clause, Subject, read_sentence
from vlm_selfalign.scoring.event_order import Timeline, places
from vlm_selfalign.scoring.event_words import EventWords, third_person
from vlm_selfalign.scoring.sentences import split_sentences
from vlm_selfalign.scoring.vocabulary import Vocabulary, with_article
from vlm_selfalign.scoring.words import Word, words_of

TOWARDS = {"left": "to the left", "right": "to the right"}
"""How a direction is said after a verb; others as they are."""

ORDER = "Does it happen in this order: {}, then {}?"

NEW = frozenset(("appear",))
"""Actions of what was not there before: it has no "the" yet."""


class EventClaim(Record):
    """One event as a text tells it: characters ``start``..``end`` from the verb on, the index of its sentence.

    ``direction`` and ``other`` (whom it meets) are None where the text does not say. ``negated``: the text says that
    it did not happen. ``when`` ranks the events of a text in the order they are said to have happened, from 0: equal
    ranks at the same time, None for what did not happen.
    """

    action: str
    subject: str
    direction: str | None = None
    other: str | None = None
    start: int
    end: int
    sentence: int
    negated: bool = False
    hedged: bool = False
    when: int | None = None

    @property
    def kind(self) -> str:
        """Its name: ``car moves left``, ``boat meets cup``, ``ball appears``."""
        return event_name(self.subject, self.action, self.direction, self.other)

    @property
    def colour(self) -> None:
        """Events have none; the colour of the subject is a claim about an object."""
        return None

    @property
    def question(self) -> str:
        """Asks back whether it happened."""
        return event_question(self.subject, self.action, self.direction, self.other)


def event_name(subject: str, action: str, direction: str | None = None, other: str | None = None) -> str:
    """The name under which an event is counted: ``car moves left``."""
    return " ".join(filter(None, [subject, third_person(action), other, direction]))


def event_question(subject: str, action: str, direction: str | None = None, other: str | None = None) -> str:
    """``Does the car move to the left?``, ``Does a ball appear?``, ``Does the boat meet the cup?``"""
    return f"Does {_worded(subject, action, direction, other, action)}?"


def event_said(subject: str, action: str, direction: str | None = None, other: str | None = None) -> str:
    """The same in plain words: ``the car moves to the left``."""
    return _worded(subject, action, direction, other, third_person(action))


def _worded(subject: str, action: str, direction: str | None, other: str | None, verb: str) -> str:
    who = with_article(subject) if action in NEW else f"the {subject}"
    # Who is met says enough: "meets the cup to the left" would be where the cup is.
    way = TOWARDS.get(direction, direction) if direction and not other else None
    return " ".join(filter(None, [who, verb, f"the {other}" if other else None, way]))


def read_events(text: str, vocabulary: Vocabulary, events: EventWords) -> tuple[EventClaim, ...]:
    """All event claims of a text in the order of its words."""
    found: list[EventClaim] = []
    timeline = Timeline()
    known: list[Subject] = []
    for number, span in enumerate(split_sentences(text)):
        words = words_of(text, span)
        clauses, known = read_sentence(words, vocabulary, events, known)
        timeline.new_sentence()
        for clause, place in zip(clauses, places(words, [clause.span for clause in clauses]), strict=True):
            for claims in _claims(clause, words, number):
                timeline.add([] if clause.negated else [*range(len(found), len(found) + len(claims))], place)
                found += claims
    ranks = timeline.ranks()
    return tuple(claim.model_copy(update={"when": ranks.get(i)}) for i, claim in enumerate(found))


def _claims(clause: Clause, words: Sequence[Word], sentence: int) -> Iterator[list[EventClaim]]:
    """One claim for each subject, all at the same time; so for each direction, one after the other."""
    for way, last in clause.ways:
        yield [
            EventClaim(
                action=clause.form.action,
                subject=subject.kind,
                direction=way,
                other=clause.other,
                start=words[clause.first].start,
                end=words[max(last, clause.last) - 1].end,
                sentence=sentence,
                negated=clause.negated,
                hedged=any(word.text in HEDGES for word in words[clause.after : clause.first]),
            )
            for subject in clause.subjects
        ]
