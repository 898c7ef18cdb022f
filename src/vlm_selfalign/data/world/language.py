"""English for a claim about an object: many sentence forms, each knowing what it says.

The first embedded model writes one form (``captions.SENTENCE``); whoever reads claims out of free text must
read them all. A form's claims are its truth::

    FORMS["pronoun"].write(cup, box)     # "I can see a cup. It is red."
    FORMS["pronoun"].claims(cup, box)    # [Claim(kind="cup", colour="red")]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLURALS = {"fish": "fish", "box": "boxes"}
"""Plurals that are not kind + s."""

Object = Mapping[str, Any]
"""An object of the truth: kind, colour, row, col."""


@dataclass(frozen=True)
class Claim:
    """What a sentence says of one kind: that it is there (or not), and in which colour if it says so."""

    kind: str
    colour: str | None = None
    present: bool = True


@dataclass(frozen=True)
class Form:
    """A sentence form about one object, or about two where it mentions the ``other``.

    ``template`` may use {kind} {kinds} {colour} {place} and the same with ``other_``. ``denies`` says which of
    the two ("kind", "other") it says is not there.
    """

    template: str
    denies: tuple[str, ...] = ()

    def write(self, thing: Object, other: Object | None = None) -> str:
        """The sentence; ``other`` is needed by forms about two objects."""
        words = _words(thing, "")
        if other is not None:
            words |= _words(other, "other_")
        return self.template.format(**words)

    @property
    def about_two(self) -> bool:
        """Whether the form mentions the other object."""
        return "{other_" in self.template

    def claims(self, thing: Object, other: Object | None = None) -> list[Claim]:
        """What the sentence says, in the order it says it."""
        named = [("kind", "", thing)] + ([("other", "other_", other)] if self.about_two and other else [])
        named.sort(key=lambda entry: self._first(entry[1]))
        return [self._claim(name, prefix, item) for name, prefix, item in named]

    def _first(self, prefix: str) -> int:
        return min(i for word in ("kind}", "kinds}") if (i := self.template.find("{" + prefix + word)) >= 0)

    def _claim(self, name: str, prefix: str, item: Object) -> Claim:
        denied = name in self.denies
        coloured = "{" + prefix + "colour}" in self.template
        return Claim(item["kind"], item["colour"] if coloured else None, not denied)


def _words(item: Object, prefix: str) -> dict[str, str]:
    kind = item["kind"]
    words = {"kind": kind, "kinds": PLURALS.get(kind, kind + "s"), "colour": item["colour"], "place": place(item)}
    return {prefix + name: word for name, word in words.items()}


def place(item: Object, cells: int = 4) -> str:
    """Where an object is, in words: ``top left``, ``bottom right``."""
    vertical = "top" if item["row"] < cells / 2 else "bottom"
    return f"{vertical} {'left' if item['col'] < cells / 2 else 'right'}"


FORMS: dict[str, Form] = {
    # it exists
    "there_is": Form("There is a {kind}."),
    "there_is_in": Form("There is a {kind} in {colour}."),
    "there_is_colour": Form("There is a {colour} {kind}."),
    "see": Form("I see a {colour} {kind}."),
    "can_see": Form("You can see a {kind} here."),
    "shows": Form("The image shows a {colour} {kind}."),
    "contains": Form("The picture contains a {kind}."),
    "visible": Form("A {colour} {kind} is visible."),
    "can_be_seen": Form("A {kind} can be seen in the picture."),
    "appears": Form("A {colour} {kind} appears in the scene."),
    "features": Form("This scene features one {colour} {kind}."),
    "bare": Form("A {colour} {kind}."),
    # where it is
    "located": Form("There is a {kind} in the {place} corner."),
    "place_first": Form("In the {place} there is a {colour} {kind}."),
    "place_sits": Form("At the {place} sits a {kind}."),
    "stands_at": Form("A {colour} {kind} is at the {place}."),
    "the_is_at": Form("The {kind} is in the {place}."),
    "next_to": Form("There is a {colour} {kind} next to a {other_colour} {other_kind}."),
    "near": Form("A {kind} is near the {other_kind}."),
    "beside": Form("Beside the {colour} {kind} is a {other_kind}."),
    # its colour
    "the_is": Form("The {kind} is {colour}."),
    "coloured": Form("The {kind} has a {colour} colour."),
    "painted": Form("There is a {kind} painted {colour}."),
    "which_is": Form("There is a {kind}, which is {colour}."),
    "that_is": Form("I can see a {kind} that is {colour}."),
    "pronoun": Form("I can see a {kind}. It is {colour}."),
    "pronoun_its": Form("There is a {kind} at the {place}. Its colour is {colour}."),
    "one_is": Form("One of the objects is a {colour} {kind}."),
    # more than one
    "both": Form("There is a {kind} and a {other_kind}."),
    "both_colours": Form("The image shows a {colour} {kind} and a {other_colour} {other_kind}."),
    "as_well": Form("Besides the {colour} {kind}, there is also a {other_kind}."),
    "both_are": Form("I see two things: a {kind} and a {other_colour} {other_kind}."),
    "plural": Form("There are two {kinds}."),
    "some": Form("The picture has some {colour} {kinds}."),
    "they": Form("There are several {kinds}. They are {colour}."),
    # it is not there
    "no": Form("There is no {kind}.", denies=("kind",)),
    "not_any": Form("There are not any {kinds} in the image.", denies=("kind",)),
    "cannot_see": Form("I cannot see a {kind}.", denies=("kind",)),
    "without": Form("There is a {colour} {kind} without a {other_kind}.", denies=("other",)),
    "but_no": Form("There is a {kind} but no {other_kind}.", denies=("other",)),
}
"""Forms to develop a reader of claims with; some more are held out in the tests."""
