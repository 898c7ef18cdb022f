"""Whether what is shown can answer a question, where its truth is known: what the question takes for granted must hold.

::

    words = Vocabulary.load("world_clips")
    question_kind("Which way does the boat move?")                      # "direction"
    is_answerable("Which way does the boat move?", truth, words)        # there is a boat, and it moves one way only

"The boat" is taken to be there, "a boat" is not; an event in a clause after "before", "after" or "when", or after a
colon, is taken to have happened. A noun that no word list knows counts against a question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vlm_selfalign.scoring.events import read_events
from vlm_selfalign.scoring.happenings import Happening, Said, events_of, happened, is_part
from vlm_selfalign.scoring.truth import kinds_of, objects_of
from vlm_selfalign.scoring.vocabulary import Vocabulary
from vlm_selfalign.scoring.words import wordset

KINDS: tuple[tuple[str, str], ...] = (
    ("colour", r"\bwhat colou?r|\bwhich colou?r"),
    ("count", r"\bhow (?:many|often|much)\b"),
    ("direction", r"\b(?:which|what) (?:way|direction)\b"),
    ("place", r"^where\b|\bwhere (?:is|are|does|do|did)\b|\bon which side\b"),
    ("order", r"\b(?:first|last|before|after|order|next|earlier|later)\b"),
    ("existence", r"^(?:is|are|was|were) there\b|^(?:do|can) you see\b|^does the \w+ (?:show|contain|have)\b"),
    ("time", r"^(?:when|how long)\b"),
    ("look", r"\bhow (?:big|large|small)\b|\b(?:what|which) (?:size|shape|material)\b|\blook like\b"),
    ("reason", r"^why\b"),
    ("manner", r"^how\b"),
    ("happening", r"\b(?:what|which)\b.*\b(?:happen|happens|happened|do|does|did|doing|change|changes)\b"),
    ("who", r"^(?:who|which|what)\b"),
    ("did it happen", r"^(?:does|do|did|has|have)\b"),
    ("yes or no", r"^(?:is|are|was|were|can)\b"),
)
"""Kinds of questions and how they read, the first that fits."""

GENERIC = wordset(
    "clip clips video image picture scene frame object objects thing things item items one ones start end beginning "
    "middle left right top bottom side sides corner background way direction colour color order first last next other "
    "same second third whole following most camera screen size shape position place time number answer question events "
    "event action actions movement"
)
"""Words after "the" that name nothing that could be missing."""

_WORD = re.compile(r"[a-z]+(?:['\u2019][a-z]+)?")
_CLAUSE = re.compile(r"(?:\b(?:before|after|when|while|once|until)\b|:)\s*(.+)")
_ASKED = re.compile(r"^(?:where|when|how|why|in which|which|what|to)\b.*?\b(?:does|did|do) (the [a-z ]+)")
_WHO_FIRST = re.compile(r"^(?:which|who|what)\s+(?:thing |object |one )?(\w+) (?:first|last)\b[^a-z]*(.*)")


def question_kind(text: str) -> str | None:
    """What kind of thing a question asks for; None where it reads like none."""
    said = text.strip().lower()
    return next((name for name, pattern in KINDS if re.search(pattern, said)), None)


def is_answerable(text: str, truth: Any, vocabulary: Vocabulary) -> bool | None:
    """Whether what a question takes for granted holds; None where no truth is known, or any noun may be a thing."""
    if not objects_of(truth) or vocabulary.is_open:
        return None
    kind = question_kind(text)
    if kind is None:
        return False
    said = text.strip().rstrip("?").lower()
    named = list(_taken_to_be_there(said, vocabulary))
    if not set(named) <= set(kinds_of(truth)):
        return False
    return _events_hold(said, kind, events_of(truth), vocabulary)


def _taken_to_be_there(said: str, vocabulary: Vocabulary) -> Iterator[str]:
    """The kinds after "the"; for an unknown noun the noun itself."""
    words = _WORD.findall(said)
    for place, word in enumerate(words):
        if word != "the":
            continue
        rest = words[place + 1 :]
        while rest and rest[0] in vocabulary.colour_of:
            rest = rest[1:]
        found = _phrase(rest, vocabulary)
        if found is not None:
            yield found
        elif rest and rest[0] not in GENERIC:
            yield rest[0]


def _phrase(words: Sequence[str], vocabulary: Vocabulary) -> str | None:
    for size in range(min(vocabulary.longest, len(words)), 0, -1):
        phrase = vocabulary.phrases.get(tuple(words[:size]))
        if phrase is not None:
            return phrase.kind or " ".join(words[:size])
    return None


def _events_hold(said: str, kind: str, events: Sequence[Happening], vocabulary: Vocabulary) -> bool:
    words = vocabulary.event_words
    if words is None:
        return True
    claims = list(_taken_to_have_happened(said, vocabulary))
    if not all(happened(claim, events, words) for claim in claims):
        return False
    if kind == "direction":
        # Which of two ways is meant, nobody knows.
        ways = [{e.direction for e in events if is_part(claim, e, words)} for claim in claims]
        return all(len(found) == 1 for found in ways)
    return True


def _taken_to_have_happened(said: str, vocabulary: Vocabulary) -> Iterator[Said]:
    words = vocabulary.event_words
    assert words
    clause, asked, first = _CLAUSE.search(said), _ASKED.match(said), _WHO_FIRST.match(said)
    texts = [clause.group(1)] if clause else []
    if asked and not (clause and asked.end() > clause.start(1)):
        texts.append(_CLAUSE.split(asked.group(1))[0])
    if first:
        texts += [f"{who} {first.group(1)}" for who in re.split(r",? or ", first.group(2)) if who.strip()]
    for text in texts:
        yield from read_events(f"{text.strip().capitalize()}.", vocabulary, words)
