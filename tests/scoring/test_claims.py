import json
import runpy
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.data.world.language import FORMS
from vlm_selfalign.scoring.claims import read_claims
from vlm_selfalign.scoring.vocabulary import Vocabulary

VOCABULARIES = {name: Vocabulary.load(name) for name in ("world", "coco", "open")}
CAPTIONS = [json.loads(line) for line in (Path(__file__).parent / "captions.jsonl").read_text().splitlines()]
WORLD_TESTS = Path(__file__).parents[1] / "data" / "world"
HELD_OUT = runpy.run_path(str(WORLD_TESTS / "held_out_forms.py"))["HELD_OUT"]

CUP = {"kind": "cup", "colour": "red", "row": 0, "col": 0}
BOX = {"kind": "box", "colour": "blue", "row": 3, "col": 3}
FISH = {"kind": "fish", "colour": "white", "row": 0, "col": 3}


def said(text, vocabulary="world"):
    """Kinds in order, denials with a minus."""
    return [("-" if claim.negated else "") + claim.kind for claim in read_claims(text, VOCABULARIES[vocabulary])]


def matched(row):
    """Pairs of gold and read claims of the same kind and negation at the same place, and how many were read."""
    read = list(read_claims(row["text"], VOCABULARIES[row["vocabulary"]]))
    total, pairs = len(read), []
    for gold in row["claims"]:
        for claim in read:
            here = claim.start < gold["end"] and gold["start"] < claim.end
            if here and claim.kind == gold["kind"] and claim.negated == gold["negated"]:
                pairs.append((gold, claim))
                read.remove(claim)
                break
    return pairs, total


def scores(rows):
    """F1 of claims, and the share of matched claims with the right colour among those with any."""
    results = [matched(row) for row in rows]
    pairs = [pair for found, _ in results for pair in found]
    f1 = 2 * len(pairs) / (sum(total for _, total in results) + sum(len(row["claims"]) for row in rows))
    coloured = [(gold["colour"], claim.colour) for gold, claim in pairs if gold["colour"] or claim.colour]
    return f1, sum(one == other for one, other in coloured) / len(coloured)


def test_two_hundred_different_captions_half_of_them_for_test():
    assert len({row["text"] for row in CAPTIONS}) == 200
    assert Counter(row["split"] for row in CAPTIONS) == {"dev": 100, "test": 100}
    assert sum(claim["negated"] for row in CAPTIONS for claim in row["claims"]) > 40


@pytest.mark.parametrize("split", ["dev", "test"])
def test_claims_of_captions(split):
    f1, colours = scores([row for row in CAPTIONS if row["split"] == split])
    assert f1 >= 0.95
    assert colours >= 0.85


def test_numbers_of_captions():
    pairs = [pair for row in CAPTIONS for pair in matched(row)[0] if pair[0]["count"]]
    assert len(pairs) >= 10
    assert all(gold["count"] == claim.count for gold, claim in pairs)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("thing", "other"), [(CUP, BOX), (FISH, CUP), (BOX, FISH)])
def test_forms_of_the_drawn_world(name, thing, other):
    form = FORMS[name]
    read = read_claims(form.write(thing, other), VOCABULARIES["world"])
    expected = [(claim.kind, claim.colour, claim.present) for claim in form.claims(thing, other)]
    assert [(claim.kind, claim.colour, not claim.negated) for claim in read] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is no boat and a car is on the left.", ["-boat", "car"]),
        ("The picture doesn't show a boat, it shows a car.", ["-boat", "car"]),
        ("I can't see any boats, cars, or trees.", ["-boat", "-car", "-tree"]),
        ("The car is not red.", ["car"]),
        ("The car is not next to a house.", ["car", "house"]),
        ("There is not only a car but also a boat.", ["car", "boat"]),
        ("There are no more than two cars.", ["car"]),
        ("There are no objects other than a car.", ["car"]),
        ("There is no sign of a boat.", ["-boat"]),
        ("The house is missing a tree.", ["house", "-tree"]),
        ("A boat is missing from the picture.", ["-boat"]),
        ("Neither the car nor the boat is red.", ["car", "boat"]),
        ("Neither the car nor the boat is visible.", ["-car", "-boat"]),
        ("A car is visible, but a boat is not.", ["car", "-boat"]),
        ("There is a car rather than a boat.", ["car", "-boat"]),
        ("Is there a boat?", []),
        ("It is shaped like a star.", []),
        ("I wonder whether there is a boat.", []),
        ("A sign reads \"boat\" above the house.", ["house"]),
        ("There are no other cars.", []),
        ("The fish tank is empty.", []),
    ],
)  # fmt: skip
def test_what_is_denied_and_what_says_nothing(text, expected):
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A hot dog lies by a fire hydrant.", ["hot dog", "fire hydrant"]),
        ("A dog stands under the traffic light at the bus stop.", ["dog", "traffic light"]),
        ("The orange car is parked near an orange.", ["car", "orange"]),
        ("The cat is orange.", ["cat"]),
        ("She can bear the cold.", []),
        ("A man skis down the slope.", ["person"]),
        ("The bus driver waves at the passengers.", ["person", "person"]),
    ],
)
def test_compounds_verbs_and_colours_of_photographs(text, expected):
    assert said(text, "coco") == expected


@pytest.mark.parametrize(
    ("text", "colours"),
    [
        ("There is a car next to a house. It is red.", ["red", None]),
        ("There are two cars. They are red.", ["red"]),
        ("A car and a boat, both red.", ["red", "red"]),
        ("The car near the house is red.", ["red", None]),
        ("The car that is blue is next to a boat that is red.", ["blue", "red"]),
        ("The red object is a car.", ["red"]),
        ("There is a car with a red roof.", [None]),
        ("The car is not red.", [None]),
        ("There are two cars, one red and one blue.", [None]),
    ],
)
def test_colours(text, colours):
    assert [claim.colour for claim in read_claims(text, VOCABULARIES["world"])] == colours


def test_numbers_and_hedges():
    claims = read_claims("Two cars, a boat, the house and some trees. Perhaps there is a kite.", VOCABULARIES["world"])
    assert [claim.count for claim in claims] == [2, 1, None, None, 1]
    assert [claim.hedged for claim in claims] == [False, False, False, False, True]


def test_spans_are_the_words_in_the_text():
    text = "There is a boat.  I see fire trucks and a mug."
    claims = read_claims(text, VOCABULARIES["coco"])
    assert [(text[c.start : c.end], c.sentence) for c in claims] == [("boat", 0), ("fire trucks", 1), ("mug", 1)]


def test_without_a_list_every_noun_head_is_a_kind():
    assert said("There is an old wooden bridge over the river, but no people.", "open") == [
        "bridge",
        "river",
        "-person",
    ]


@given(st.text(max_size=80))
def test_any_text_can_be_read(text):
    for claim in read_claims(text, VOCABULARIES["coco"]):
        assert 0 <= claim.start < claim.end <= len(text)


LINE = "a the no not two red car boat cars house is are there and or , . but without it neither nor ? next to"


@given(st.lists(st.sampled_from(LINE.split()), max_size=20))
def test_any_order_of_words_can_be_read(words):
    for claim in read_claims(" ".join(words), VOCABULARIES["world"]):
        assert claim.kind in VOCABULARIES["world"].kinds


def test_forms_never_seen_while_developing():
    right = read = gold = 0
    for form in HELD_OUT.values():
        for thing, other in ((CUP, BOX), (FISH, CUP), (BOX, FISH)):
            found = [(c.kind, c.negated) for c in read_claims(form.write(thing, other), VOCABULARIES["world"])]
            expected = [(c.kind, not c.present) for c in form.claims(thing, other)]
            right += (Counter(found) & Counter(expected)).total()
            read, gold = read + len(found), gold + len(expected)
    assert len(HELD_OUT) >= 10
    assert 2 * right / (read + gold) >= 0.9
