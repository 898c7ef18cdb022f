"""Which kinds of things and which colours are looked for in a text, and how their names are inflected.

::

    Vocabulary.load("coco").kinds["person"]        # ("man", "woman", ...)
    Vocabulary.load("open")                        # no closed list: every noun is a kind
    Vocabulary(kinds={"mug": ("beaker",)}, colours={"red": ("crimson",)})
    with_article("umbrella"), plural("wine glass")  # "an umbrella", "wine glasses"
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path

from pydantic import Field, ValidationError

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.registry import explain
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.words import wordset

SHIPPED = Path(__file__).parent / "vocabularies"

UNCHANGED = wordset("fish sheep deer scissors skis tennis grass glasses pants jeans series")
"""Words that are their own plural, or that the rule tables of textblob inflect wrongly."""

PLURALS = {
    "cow": "cows",
    "brother": "brothers",
    "human": "humans",
    "minibus": "minibuses",
    "calf": "calves",
    "person": "people",
}
"""Plurals where the rule tables give an old or a wrong one (``kine``, ``humen``)."""


class Vocabulary(Record):
    """Kinds and colours by name, each with the other words for it; ``others`` are phrases that name something else.

    ``others`` guards compounds ("fish bowl" is no fish). With ``is_open`` every noun is a kind, except ``others``.
    ``events`` names the ``EventWords`` that happenings are read with; without, only things are.
    ``place`` is what questions call what is shown.
    """

    kinds: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    colours: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    others: tuple[str, ...] = ()
    is_open: bool = False
    events: str | None = None
    place: str = "image"

    @classmethod
    def load(cls, name: str | Path) -> Vocabulary:
        """``world``, ``coco``, ``open``, or the path of a JSON file with the same keys.

        Raises ``UserError`` when there is no such vocabulary or the file is broken.
        """
        path = SHIPPED / f"{name}.json"
        if not path.is_file():
            path = Path(name)
        if not path.is_file():
            shipped = [file.stem for file in SHIPPED.glob("*.json")]
            raise UserError(f"no vocabulary '{name}'{nearest(str(name), shipped)} (or give the path of a JSON file)")
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise UserError(f"vocabulary {path}: {explain(error, '', cls)}") from None
        except ValueError as error:
            raise UserError(f"vocabulary {path}: not valid JSON ({error}); fix the file") from None

    def kind_of(self, word: str) -> str | None:
        """The kind a word or phrase names, singular or plural; None when it names none."""
        found = self.phrases.get(tuple(word.lower().split()))
        return found.kind if found else None

    @cached_property
    def phrases(self) -> dict[tuple[str, ...], Phrase]:
        """All surface forms, as tuples of lower-case words. ``others`` are there with an empty kind."""
        table: dict[tuple[str, ...], Phrase] = {}
        named = [("", word) for word in self.others]
        named += [(kind, word) for kind, words in self.kinds.items() for word in (kind, *words)]
        for kind, word in named:
            table.setdefault(tuple(plural(word).lower().split()), Phrase(kind=kind, plural=True))
        # After the plurals: a word that is its own plural ("fish") counts as singular.
        for kind, word in named:
            table[tuple(word.lower().split())] = Phrase(kind=kind, plural=singular(word) != word)
        return table

    @cached_property
    def event_words(self) -> EventWords | None:
        """The words for events, if any are looked for."""
        return EventWords.load(self.events) if self.events else None

    @cached_property
    def verbs(self) -> frozenset[str]:
        """Words that are verbs after a noun, where the tagger would take them for plurals ("the car MOVES")."""
        return frozenset(form[0] for form in self.event_words.forms) if self.event_words else frozenset()

    @cached_property
    def longest(self) -> int:
        """How many words the longest phrase has."""
        return max((len(phrase) for phrase in self.phrases), default=1)

    @cached_property
    def colour_of(self) -> dict[str, str]:
        """The colour behind every colour word."""
        return {word: name for name, words in self.colours.items() for word in (name, *words)}


class Phrase(Record):
    """What a surface form stands for: its kind (empty: something else), and whether it is a plural."""

    kind: str
    plural: bool


@cache
def plural(noun: str) -> str:
    """The plural of a noun or noun phrase: ``fire hydrants``, ``slices of pizza``; a plural stays as it is."""
    phrase, of, rest = noun.partition(" of ")
    *before, last = phrase.split(" ")
    # Imported here because textblob brings all of nltk: over a second that --help must not pay.
    from textblob.en.inflect import pluralize

    kept = last in UNCHANGED or _one(last) != last
    many = last if kept else PLURALS.get(last) or pluralize(last)
    return " ".join([*before, many]) + of + rest


@cache
def singular(noun: str) -> str:
    """The singular of a noun or noun phrase (its last word); words that are no plural stay as they are."""
    *before, last = noun.split(" ")
    return " ".join([*before, _one(last)])


def _one(word: str) -> str:
    from textblob.en.inflect import singular_irregular, singularize

    if word in _SINGULARS or word in singular_irregular:
        return _SINGULARS.get(word) or singular_irregular[word]
    if word in UNCHANGED or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if re.fullmatch(r"[a-z]ies", word):  # ties, pies: the tables make them "ty", "py"
        return word[:-1]
    return singularize(word)


_SINGULARS = {many: one for one, many in PLURALS.items()} | {"women": "woman", "mice": "mouse", "buses": "bus"}
_VOWEL_SOUND = re.compile(r"(?!uni[^nm]|u[bcfhjkqrst][aeiou]|eu|ewe|one\b|once\b|u\b)[aeiou]|hour|honest|heir|honou?r")
_SPELT_WITH_VOWEL = re.compile(r"[AEFHILMNORSX][A-Z]*\b(?![a-z])")


def with_article(noun: str) -> str:
    """The noun with ``a`` or ``an``, by sound as far as a rule can tell: ``an umbrella``, ``a uniform``, ``an SUV``."""
    spelt = noun[:2].isupper() or len(noun) == 1
    vowel = _SPELT_WITH_VOWEL.match(noun) if spelt else _VOWEL_SOUND.match(noun.lower())
    return f"{'an' if vowel else 'a'} {noun}"


def listed(nouns: Iterable[str]) -> str:
    """Nouns with their articles as English lists them: ``a car, an oven and a box``."""
    *before, last = map(with_article, nouns)
    return f"{', '.join(before)} and {last}" if before else last
