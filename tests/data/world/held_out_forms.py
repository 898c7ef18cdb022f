"""Sentence forms that no reader of claims was developed with: only for measuring one."""

from vlm_selfalign.data.world.language import Form

HELD_OUT = {
    "spot": Form("One can spot a {colour} {kind} over there."),
    "depicted": Form("Depicted here is a {kind}, coloured {colour}."),
    "with": Form("It is a scene with a {kind} and with a {other_colour} {other_kind}."),
    "consists": Form("The drawing includes a {colour} {kind} towards the {place}."),
    "lies": Form("A {kind} lies in the {place} part, and it looks {colour}."),
    "above": Form("A {colour} {kind} is drawn above the {other_colour} {other_kind}."),
    "hue": Form("There is one {kind} of {colour} hue."),
    "neither": Form("Neither a {kind} nor a {other_kind} is shown.", denies=("kind", "other")),
    "lacks": Form("The picture lacks a {kind}.", denies=("kind",)),
    "doesnt": Form("The image doesn't show a {kind}.", denies=("kind",)),
    "three": Form("Three {kinds} are visible, all of them {colour}."),
    "also": Form("Also present: a {colour} {kind}."),
    "accompanied": Form("The {colour} {kind} is accompanied by a {other_kind}."),
}
