"""All that a text claims of a picture or clip: what is there and, given words for events, what happens.

A name says which it is: ``car`` is a thing, ``car moves left`` an event. So whatever collects names, asks them back and
weighs sentences by them treats both alike::

    for claim in read_told("A car moves left.", vocabulary, words): claim.kind       # "car", "car moves left"
    asked_back("car moves left", words), asked_back("car", words, "clip")            # how each is asked back
"""

from __future__ import annotations

from vlm_selfalign.scoring.claims import Claim, read_claims
from vlm_selfalign.scoring.event_words import EventWords, third_person
from vlm_selfalign.scoring.events import EventClaim, event_question, read_events
from vlm_selfalign.scoring.happenings import Happening
from vlm_selfalign.scoring.vocabulary import Vocabulary, with_article

EXISTS = "Is there {object} in the {place}?"


def read_told(text: str, vocabulary: Vocabulary, words: EventWords | None = None) -> tuple[Claim | EventClaim, ...]:
    """The claims about things and, with ``words``, about events, in the order of the text."""
    claims: list[Claim | EventClaim] = [*read_claims(text, vocabulary)]
    if words is not None:
        claims += read_events(text, vocabulary, words)
    return tuple(sorted(claims, key=lambda claim: (claim.start, claim.end)))


def asked_back(name: str, words: EventWords | None = None, place: str = "image") -> str:
    """The yes/no question behind a name: is it there, or did it happen."""
    event = event_of(name, words) if words else None
    return event_question(*event.said) if event else EXISTS.format(object=with_article(name), place=place)


def event_of(name: str, words: EventWords) -> Happening | None:
    """The event that a name means (``event_name`` the other way round), or None for the name of a thing."""
    said = name.split()
    for action in words.actions:
        verb = third_person(action).split()
        for place in range(1, len(said) - len(verb) + 1):
            if said[place : place + len(verb)] == verb:
                rest = said[place + len(verb) :]
                direction = rest.pop() if rest and rest[-1] in words.directions else None
                return Happening(action, " ".join(said[:place]), direction, " ".join(rest) or None)
    return None
