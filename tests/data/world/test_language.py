"""Forms say what they claim to say."""

import re
import runpy
from pathlib import Path

import pytest

from vlm_selfalign.data.world.language import FORMS, Claim

HELD_OUT = runpy.run_path(str(Path(__file__).with_name("held_out_forms.py")))["HELD_OUT"]

CUP = {"kind": "cup", "colour": "red", "row": 0, "col": 3}
FISH = {"kind": "fish", "colour": "blue", "row": 3, "col": 0}


def test_there_are_enough_forms_and_none_is_both_known_and_held_out():
    assert len(FORMS) >= 30 and len(HELD_OUT) >= 10
    templates = [form.template for form in (FORMS | HELD_OUT).values()]
    assert len(set(templates)) == len(templates)


@pytest.mark.parametrize("name", FORMS | HELD_OUT)
def test_a_form_names_what_it_claims(name):
    form = (FORMS | HELD_OUT)[name]
    words = re.findall(r"\w+", form.write(CUP, FISH))
    claims = form.claims(CUP, FISH)
    assert {claim.kind for claim in claims} == {k for k in ("cup", "fish") if k in words or k + "s" in words}
    assert {claim.colour for claim in claims if claim.colour} == {"red", "blue"} & set(words)
    assert form.write(CUP, FISH)[0].isupper() and form.write(CUP, FISH).endswith(".")


def test_plural_place_and_denial():
    assert FORMS["plural"].write({**CUP, "kind": "box"}) == "There are two boxes."
    assert FORMS["stands_at"].write(CUP) == "A red cup is at the top right."
    assert FORMS["without"].claims(CUP, FISH) == [Claim("cup", "red"), Claim("fish", None, False)]
