"""Which happenings are looked for in a text about a clip: the verbs for each, their inflections, and directions.

::

    words = EventWords.load("world")
    words.forms[("drifts",)]             # Form(action="move", direction=None, negated=False)
    words.backwards("appear", None)      # ("vanish", None): what it is when the clip is played backwards
"""

from __future__ import annotations

import json
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.registry import explain

SHIPPED = Path(__file__).parent / "vocabularies" / "events"

_IRREGULAR = {
    "go": ("goes", "went", "gone", "going"),
    "come": ("comes", "came", "coming"),
    "leave": ("leaves", "left", "leaving"),
    "make": ("makes", "made", "making"),
    "rise": ("rises", "rose", "risen", "rising"),
    "fall": ("falls", "fell", "fallen", "falling"),
    "sink": ("sinks", "sank", "sunk", "sinking"),
    "fly": ("flies", "flew", "flown", "flying"),
    "drive": ("drives", "drove", "driven", "driving"),
    "run": ("runs", "ran", "running"),
    "swim": ("swims", "swam", "swum", "swimming"),
    "slide": ("slides", "slid", "sliding"),
    "meet": ("meets", "met", "meeting"),
    "hit": ("hits", "hitting"),
    "stand": ("stands", "stood", "standing"),
    "keep": ("keeps", "kept", "keeping"),
    "become": ("becomes", "became", "becoming"),
    "show": ("shows", "showed", "shown", "showing"),
    "catch": ("catches", "caught", "catching"),
    "be": ("is", "are", "was", "were", "'s", "'re"),
    "can": ("could",),
    "set": ("sets", "setting"),
}

_DOUBLED = ("drop", "pop", "step", "stop", "skip", "hop", "spin", "grab", "jog", "dip", "slip", "tip", "flip")


class EventKind(Record):
    """One action: other verbs for it (base form; the first word inflects), and what a sentence may say of it.

    ``towards`` are verbs that say a direction too; ``still`` are phrases that say it does not happen. What
    ``implies`` another action is that action as well (who meets somebody has moved). ``backwards`` is the action
    seen when the clip is played backwards.
    """

    verbs: tuple[str, ...] = ()
    towards: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    still: tuple[str, ...] = ()
    directed: bool = False
    with_other: bool = False
    implies: str | None = None
    backwards: str | None = None


class Form(NamedTuple):
    """What a surface form says: which action (empty: none), which way, and whether it says that it did not happen."""

    action: str
    direction: str | None = None
    negated: bool = False


class EventWords(Record):
    """Actions and directions by name; ``others`` are phrases that name no action although they hold such a verb."""

    actions: dict[str, EventKind]
    directions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    opposites: dict[str, str] = Field(default_factory=dict)
    others: tuple[str, ...] = ()

    @classmethod
    def load(cls, name: str | Path = "world") -> EventWords:
        """``world`` or the path of a JSON file with the same keys. Raises ``UserError`` when there is none, or it is
        broken.
        """
        path = SHIPPED / f"{name}.json"
        path = path if path.is_file() else Path(name)
        if not path.is_file():
            known = [file.stem for file in SHIPPED.glob("*.json")]
            raise UserError(f"no event words '{name}'{nearest(str(name), known)} (or give the path of a JSON file)")
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise UserError(f"event words {path}: {explain(error, '', cls)}") from None
        except ValueError as error:
            raise UserError(f"event words {path}: not valid JSON ({error}); fix the file") from None

    @cached_property
    def forms(self) -> dict[tuple[str, ...], Form]:
        """All surface forms as tuples of lower-case words, ``others`` among them."""
        table: dict[tuple[str, ...], Form] = {}
        for name, kind in self.actions.items():
            said = {verb: Form(name) for verb in (name, *kind.verbs)}
            said |= {verb: Form(name, way) for way, verbs in kind.towards.items() for verb in verbs}
            said |= {verb: Form(name, negated=True) for verb in kind.still}
            for verb, form in said.items():
                table |= dict.fromkeys(inflected(verb), form)
        table |= {words: Form("") for phrase in self.others for words in inflected(phrase)}
        # "left" alone is a direction before it is the past of "leave".
        return {words: form for words, form in table.items() if not (len(words) == 1 and words[0] in self.direction_of)}

    @cached_property
    def longest(self) -> int:
        """How many words the longest form has."""
        return max(map(len, self.forms), default=1)

    @cached_property
    def direction_of(self) -> dict[str, str]:
        """The direction behind every direction word."""
        return {word: name for name, words in self.directions.items() for word in (name, *words)}

    def happens_too(self, action: str) -> tuple[str, ...]:
        """The action and all that it implies, in that order."""
        found: list[str] = []
        while action and action not in found:
            found.append(action)
            kind = self.actions.get(action)
            action = (kind.implies if kind else None) or ""
        return tuple(found)

    def root(self, action: str) -> str:
        """The plainest action it implies: a meeting is a move."""
        return self.happens_too(action)[-1]

    def backwards(self, action: str, direction: str | None) -> tuple[str, str | None]:
        """Action and direction when the clip is played backwards."""
        kind = self.actions.get(action)
        turned = self.opposites.get(direction, direction) if direction else None
        return (kind.backwards if kind and kind.backwards else action), turned


@cache
def inflected(phrase: str) -> tuple[tuple[str, ...], ...]:
    """The phrase with its first word in all its forms: ``fade away``, ``fades away``, ``faded away``, ..."""
    verb, *rest = phrase.lower().split()
    return tuple((form, *rest) for form in (verb, *_IRREGULAR.get(verb, _regular(verb))))


def third_person(verb: str) -> str:
    """``moves``, ``vanishes``, ``flies``: a verb or phrase after "it"."""
    first, *rest = verb.split()
    return " ".join([_IRREGULAR.get(first, _regular(first))[0], *rest])


def _regular(verb: str) -> tuple[str, ...]:
    if verb.endswith("e"):
        return f"{verb}s", f"{verb}d", f"{verb[:-1]}ing"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ies", f"{verb[:-1]}ied", f"{verb}ing"
    stem = verb + verb[-1] if verb in _DOUBLED else verb
    return f"{verb}es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else f"{verb}s", f"{stem}ed", f"{stem}ing"
