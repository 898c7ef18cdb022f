"""Long descriptions: varied, read back as they are meant, and true but for what they are known to get wrong."""

import pytest

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.descriptions import describe
from vlm_selfalign.data.world.forms import ALL_FORMS, CLOSE, LONG_FORMS
from vlm_selfalign.data.world.language import FORMS
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.scoring.claims import read_claims
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORLD = Vocabulary.load("world")
RICH = WorldSettings.of(base="rich")
TOLD = [
    (shown, truth(shown, RICH), describe(shown, rng("told", i), RICH))
    for i in range(300)
    for shown in [scene(i, settings=RICH)]
]

CUP = {"kind": "cup", "colour": "red", "place": "top left", "size": "small", "count": 2}
BOX = {"kind": "box", "colour": "blue", "place": "bottom right", "size": "large", "count": 3}
FISH = {"kind": "fish", "colour": "white", "place": "centre", "size": "small", "count": 2}


def read(text):
    return [(c.kind, c.colour, not c.negated, c.hedged) for c in read_claims(text, WORLD)]


@pytest.mark.parametrize("name", ALL_FORMS)
def test_every_form_is_read_as_it_is_meant(name):
    form = ALL_FORMS[name]
    for thing, other in ((CUP, BOX), (FISH, CUP), (BOX, FISH)):
        for relation in ("left of", "below", "next to"):
            text, claims = form.write(thing, other, relation), form.claims(thing, other)
            assert read(text) == [(c.kind, c.colour, c.present, c.hedged) for c in claims]
            counts = [claim.count for claim in read_claims(text, WORLD)]
            assert all(c.count in (None, count) for c, count in zip(claims, counts, strict=True))


def test_forms_say_places_sizes_relations_numbers_and_doubts():
    assert len(LONG_FORMS) >= 30 and not set(LONG_FORMS) & set(FORMS)
    said = [form.needs for form in LONG_FORMS.values()]
    assert {"colour", "place", "size", "number", "relation"} == set().union(*said)
    assert LONG_FORMS["sized_place"].write(CUP) == "A small cup can be seen in the top left."
    assert LONG_FORMS["number_pronoun"].write(BOX) == "The picture shows three boxes. They are blue."
    assert LONG_FORMS["the_relation"].write(CUP, FISH, "left of") == "The cup is to the left of the fish."
    (claim,) = LONG_FORMS["might"].claims(CUP)
    assert claim.hedged and claim.place == "top left" and claim.size is None


def test_descriptions_are_long_varied_and_repeatable():
    texts = [told.text for _, _, told in TOLD]
    assert len(set(texts)) == len(texts)
    assert sum(len(text.split()) for text in texts) / len(texts) > 30
    assert texts[0] == describe(TOLD[0][0], rng("told", 0), RICH).text
    assert len({s.text.split()[0] for _, _, told in TOLD for s in told.sentences}) > 15


def test_descriptions_are_read_as_they_are_meant():
    for _, _, told in TOLD:
        assert read(told.text) == [(c.kind, c.colour, c.present, c.hedged) for c in told.claims], told.text


def test_whatever_is_not_known_to_be_false_is_true():
    for _, known, told in TOLD:
        false = {mention.kind for mention in told.false}
        there = {item["kind"]: item for item in known["objects"]}
        for claim in told.claims:
            if claim.kind in false:
                assert claim.kind not in there and claim.present
            elif not claim.present:
                assert claim.kind not in there
            else:
                item = there[claim.kind]
                assert claim.colour in (None, item["colour"])
                assert claim.place in (None, *[o["place"] for o in known["objects"] if o["kind"] == claim.kind])
                assert claim.size in (None, item["size"])
                assert claim.count in (None, known["counts"][claim.kind])


def test_relations_of_what_is_there_hold():
    checked = 0
    for _, known, told in TOLD:
        false = {mention.kind for mention in told.false}
        for sentence in told.sentences:
            if sentence.relation and not false & {sentence.relation[0], sentence.relation[2]}:
                assert list(sentence.relation) in known["relations"], sentence.text
                checked += 1
            for name in CLOSE:
                parts = ALL_FORMS[name].template.split("{kind}")[1].split("{")[0].strip()
                if parts in sentence.text and "next to" in parts and not false:
                    first, second = (claim.kind for claim in sentence.claims)
                    assert [first, "next to", second] in known["relations"]
    assert checked > 50


def test_doubt_goes_with_what_is_hard_to_see():
    hedged = plain = 0
    for _, known, told in TOLD:
        really = {mention.kind: mention.really or mention.kind for mention in told.mentions}
        hard = {item["kind"] for item in known["objects"] if item["hard"]}
        for claim in told.claims:
            if claim.present and known["counts"].get(really[claim.kind]) == 1:
                hedged += claim.hedged
                plain += not claim.hedged and really[claim.kind] in hard
                assert not claim.hedged or really[claim.kind] in hard
    assert hedged > 30 and plain > 30


def test_two_sources_of_falsehood_each_with_its_dial():
    def why(**dials):
        settings = WorldSettings.of(base="rich", **dials)
        told = [describe(scene(i, settings=settings), rng("why", i), settings) for i in range(60)]
        return {mention.why for one in told for mention in one.false}

    assert why() == {"planted", "mistaken"}
    assert why(mistaken=0) == {"planted"}
    assert why(partners=[]) == {"mistaken"}
    assert why(partners=[], mistaken=0) == set()
