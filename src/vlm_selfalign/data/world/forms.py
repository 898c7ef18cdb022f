"""Sentence forms of long descriptions: positions, sizes, relations, numbers, doubts, and what is not there.

Together with ``language.FORMS`` they are all that a description may say. Each pool below serves one place in a text.
"""

from __future__ import annotations

from vlm_selfalign.data.world.language import FORMS, Form

LONG_FORMS: dict[str, Form] = {
    # one object, and where it is or how large
    "stands_in": Form("A {colour} {kind} stands in the {place}."),
    "in_place": Form("In the {place} I can see a {kind}, and it is {colour}."),
    "placed": Form("There is a {kind} placed in the {place}."),
    "towards": Form("Towards the {place} there is a {colour} {kind}."),
    "is_found": Form("A {kind} in {colour} is found in the {place}."),
    "sized": Form("There is a {size} {kind}."),
    "sized_colour": Form("I notice a {size} {colour} {kind}."),
    "sized_place": Form("A {size} {kind} can be seen in the {place}."),
    "quite_sized": Form("There is a {kind}, which looks rather {size}."),
    "shown_here": Form("Shown here is a {colour} {kind}."),
    "we_have": Form("We have a {kind} here, painted {colour}."),
    "another_thing": Form("Another thing in the picture is a {colour} {kind}."),
    # two objects, and how they lie
    "is_relation": Form("A {colour} {kind} is {relation} a {other_colour} {other_kind}."),
    "there_relation": Form("There is a {kind} {relation} the {other_kind}."),
    "sits_relation": Form("A {kind} sits {relation} the {other_colour} {other_kind}."),
    "the_relation": Form("The {kind} is {relation} the {other_kind}."),
    "see_relation": Form("I can see the {colour} {kind} {relation} the {other_kind}."),
    "and_too": Form("There is a {colour} {kind}, and there is a {other_colour} {other_kind} too."),
    "together": Form("The picture shows a {kind} together with a {other_kind}."),
    "with_other": Form("There is a {colour} {kind} with a {other_kind}."),
    # more of one that was named
    "it_is_in": Form("The {kind} is found in the {place}."),
    "the_looks": Form("The {kind} looks {size}."),
    "the_colour_of": Form("The colour of the {kind} is {colour}."),
    # several
    "number_of": Form("There are {number} {kinds}."),
    "number_coloured": Form("I can see {number} {colour} {kinds}."),
    "number_pronoun": Form("The picture shows {number} {kinds}. They are {colour}."),
    # not sure
    "seems": Form("There seems to be a {colour} {kind}.", hedged=True),
    "might": Form("There might be a {kind} in the {place}.", hedged=True),
    "perhaps": Form("Perhaps there is a {colour} {kind} in the {place}.", hedged=True),
    "could": Form("It could be a {kind} that is in the {place}.", hedged=True),
    "probably": Form("In the {place} there is probably a {kind}.", hedged=True),
    "looks_like": Form("Something {colour} in the {place} appears to be a {kind}.", hedged=True),
    # not there
    "nowhere": Form("A {kind} is nowhere to be seen.", denies=("kind",)),
    "does_not_show": Form("The picture does not show a {kind}.", denies=("kind",)),
    "neither_nor": Form("There is neither a {kind} nor a {other_kind}.", denies=("kind", "other")),
}
"""Beyond ``language.FORMS``."""

ALL_FORMS = FORMS | LONG_FORMS


def _pool(line: str) -> dict[str, Form]:
    return {name: ALL_FORMS[name] for name in line.split()}


ONE = _pool(
    "there_is_in there_is_colour see shows visible appears features bare place_first place_sits stands_at painted "
    "which_is that_is pronoun pronoun_its there_is can_see contains can_be_seen one_is stands_in in_place placed "
    "towards is_found sized sized_colour sized_place quite_sized shown_here we_have another_thing"
)
"""Introduces one object."""

TWO = _pool("both both_colours both_are and_too together with_other is_relation next_to")
"""Introduces two objects at once."""

BESIDE = _pool("there_relation sits_relation")
"""Introduces its first object beside its other one, which was named before."""

AFTER = _pool("as_well")
"""Introduces its other object; the first was named before."""

MORE = _pool("the_is coloured the_is_at it_is_in the_looks the_colour_of")
"""Says more of an object that was named."""

HOW = _pool("the_relation see_relation near")
"""Says how two objects that were named lie to each other."""

CLOSE = ("next_to", "near")
"""Of these, the forms that say that two objects are next to each other."""

SEVERAL = _pool("number_of number_coloured number_pronoun")
"""Introduces several of a kind."""

DOUBTED = _pool("seems might perhaps could probably looks_like")
"""Introduces one object that is hard to see."""

DENIED = _pool("no not_any cannot_see nowhere does_not_show")
"""Says of one kind that it is not there."""

ENDINGS = ("That is all.", "Nothing else is there.", "I see nothing else.")
"""How a description may end."""
