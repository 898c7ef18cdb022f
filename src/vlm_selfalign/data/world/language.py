"""English for a claim about an object: many sentence forms, each knowing what it says.

The first embedded model writes one form (``captions.SENTENCE``); whoever reads claims out of free text must
read them all, and those of long descriptions (``forms``). A form's claims are its truth::

    FORMS["pronoun"].write(cup, box)     # "I can see a cup. It is red."
    FORMS["pronoun"].claims(cup, box)    # [Claim(kind="cup", colour="red")]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLURALS = {"fish": "fish", "box": "boxes"}
"""Plurals that are not kind + s."""

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
"""Numbers in words."""

RELATIONS = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
    "next to": "next to",
}
"""How one object lies to another, and how a sentence says so."""

Object = Mapping[str, Any]
"""An object of the truth: kind, colour, row and col or place; size and count where a form says them."""


@dataclass(frozen=True)
class Claim:
    """What a sentence says of one kind: that it is there (or not), and what else it says of it (None: nothing)."""

    kind: str
    colour: str | None = None
    present: bool = True
    place: str | None = None
    size: str | None = None
    count: int | None = None
    hedged: bool = False


@dataclass(frozen=True)
class Form:
    """A sentence form about one object, or about two where it mentions the ``other``.

    ``template`` may use {kind} {kinds} {colour} {place} {size} {number}, the same with ``other_``, and {relation}:
    how the first lies to the other. ``denies`` says which of the two ("kind", "other") it says is not there;
    ``hedged``, that it is not sure.
    """

    template: str
    denies: tuple[str, ...] = ()
    hedged: bool = False

    def write(self, thing: Object, other: Object | None = None, relation: str = "next to") -> str:
        """The sentence; ``other`` is needed by forms about two objects, ``relation`` (of ``RELATIONS``) by some."""
        words = _words(thing, "") | {"relation": RELATIONS[relation]}
        if other is not None:
            words |= _words(other, "other_")
        return self.template.format(**words)

    @property
    def needs(self) -> frozenset[str]:
        """What it says of its first object beyond the kind: colour, place, size, number, relation."""
        details = ("colour", "place", "size", "number", "relation")
        return frozenset(name for name in details if f"{{{name}}}" in self.template)

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
        said = {word for word in ("colour", "place", "size", "number") if f"{{{prefix}{word}}}" in self.template}
        return Claim(
            item["kind"],
            colour=item["colour"] if "colour" in said else None,
            present=name not in self.denies,
            place=_place(item) if "place" in said else None,
            size=item.get("size") if "size" in said else None,
            count=item.get("count") if "number" in said else None,
            hedged=self.hedged,
        )


def _words(item: Object, prefix: str) -> dict[str, str]:
    words = {
        "kind": item["kind"],
        "kinds": plural(item["kind"]),
        "colour": item["colour"],
        "place": _place(item),
        "size": item.get("size") or "",
        "number": NUMBERS[item.get("count", 1)],
    }
    return {prefix + name: word for name, word in words.items()}


def plural(kind: str) -> str:
    """``boats``, ``boxes``, ``fish``."""
    return PLURALS.get(kind, kind + "s")


def _place(item: Object) -> str:
    return item.get("place") or place(item)


def place(item: Object, cells: int = 4) -> str:
    """Where an object is, in words: ``top left``, ``bottom right``; ``middle left``, ``centre`` on odd grids."""
    down, across = (_third(item[axis], cells) for axis in ("row", "col"))
    vertical, horizontal = ("top", "middle", "bottom")[down + 1], ("left", "middle", "right")[across + 1]
    return "centre" if vertical == horizontal == "middle" else f"{vertical} {horizontal}"


def _third(index: int, cells: int) -> int:
    """-1, 0 or 1: before the middle, in it (odd grids only), after it."""
    return (2 * index + 1 > cells) - (2 * index + 1 < cells)


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
