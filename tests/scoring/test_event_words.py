import json

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.scoring.event_words import EventKind, EventWords, Form, inflected, third_person

WORDS = EventWords.load("world")


def test_inflections():
    assert set(inflected("fade away")) == {(form, "away") for form in ("fade", "fades", "faded", "fading")}
    assert set(inflected("drop")) == {("drop",), ("drops",), ("dropped",), ("dropping",)}
    assert [third_person(verb) for verb in ("move", "vanish", "fly", "go", "carry", "come up to")] == [
        "moves", "vanishes", "flies", "goes", "carries", "comes up to",
    ]  # fmt: skip


def test_forms_say_action_direction_and_denial():
    assert WORDS.forms["fell",] == Form("move", "down")
    assert WORDS.forms["stays", "where", "it", "is"] == Form("move", negated=True)
    assert WORDS.forms["comes", "into", "view"] == Form("appear")
    assert ("left",) not in WORDS.forms  # the direction, not the past of "leave"
    assert WORDS.forms["left", "the", "scene"] == Form("vanish")


def test_backwards_is_its_own_inverse_for_what_is_no_meeting():
    for action in ("move", "appear", "vanish"):
        for direction in (None, *WORDS.directions):
            assert WORDS.backwards(*WORDS.backwards(action, direction)) == (action, direction)
    assert WORDS.backwards("meet", "left") == ("move", "right")


def test_what_implies_what():
    assert WORDS.happens_too("meet") == ("meet", "move")
    assert WORDS.root("meet") == "move" and WORDS.root("appear") == "appear"
    circle = EventWords(actions={"a": EventKind(implies="b"), "b": EventKind(implies="a")})
    assert circle.happens_too("a") == ("a", "b")


def test_own_words_from_a_file(tmp_path):
    path = tmp_path / "kitchen.json"
    path.write_text(json.dumps({"actions": {"cut": {"verbs": ["chop"]}}}))
    assert EventWords.load(path).forms["chops",] == Form("cut")
    with pytest.raises(UserError, match=r"no event words 'wurld'; did you mean 'world'"):
        EventWords.load("wurld")
    path.write_text('{"actions": {"cut": {"verb": []}}}')
    with pytest.raises(UserError, match=r"kitchen.json: actions.cut.verb: unknown key"):
        EventWords.load(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"not valid JSON"):
        EventWords.load(path)
