import json

import pytest
from pydantic import ValidationError

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.world.settings import COLOURS, KINDS
from vlm_selfalign.scoring.vocabulary import Vocabulary, listed, plural, singular, with_article


def test_the_world_has_the_kinds_and_colours_of_the_drawn_world():
    world = Vocabulary.load("world")
    assert set(world.kinds) == set(KINDS)
    assert set(world.colours) == set(COLOURS)


def test_coco_has_eighty_classes_and_no_word_means_two_of_them():
    coco = Vocabulary.load("coco")
    words = [word for kind, others in coco.kinds.items() for word in (kind, *others)]
    assert len(coco.kinds) == 80
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("word", "kind"),
    [("women", "person"), ("traffic lights", "traffic light"), ("bus", "bus"), ("buses", "bus"), ("cows", "cow"),
     ("mice", "mouse"), ("wine glasses", "wine glass"), ("ties", "tie"), ("bus stop", ""), ("cloud", None)],
)  # fmt: skip
def test_kind_of_a_word(word, kind):
    assert Vocabulary.load("coco").kind_of(word) == kind


@pytest.mark.parametrize(
    ("one", "many"),
    [("box", "boxes"), ("fish", "fish"), ("knife", "knives"), ("man", "men"), ("woman", "women"), ("cow", "cows"),
     ("fire hydrant", "fire hydrants"), ("person", "people"), ("bus", "buses"), ("tie", "ties"), ("mouse", "mice")],
)  # fmt: skip
def test_plural_and_singular_undo_each_other(one, many):
    assert plural(one) == many
    assert singular(many) == one
    assert singular(one) == one
    assert plural(many) == many


def test_the_first_part_of_a_phrase_takes_the_plural():
    assert plural("slice of pizza") == "slices of pizza"


@pytest.mark.parametrize(
    "phrase",
    ["an apple", "an umbrella", "a uniform", "a university", "an hour", "a user", "an SUV", "a TV", "an oven", "a box"],
)
def test_articles(phrase):
    assert with_article(phrase.split()[1]) == phrase


def test_lists_of_nouns():
    assert listed(["car", "oven", "box"]) == "a car, an oven and a box"
    assert listed(["car"]) == "a car"


def test_a_vocabulary_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"kinds": {"mug": ["beaker"]}}))
    assert Vocabulary.load(path).kind_of("beakers") == "mug"


@pytest.mark.parametrize(
    ("content", "said"), [("{", "not valid JSON"), ('{"kind": {}}', "did you mean 'kinds'"), ("[]", "mine")]
)
def test_broken_files_are_the_users_to_fix(tmp_path, content, said):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        Vocabulary.load(path)


def test_unknown_names_get_the_nearest():
    with pytest.raises(UserError, match="did you mean 'coco'"):
        Vocabulary.load("cocoo")


def test_a_vocabulary_cannot_be_changed():
    with pytest.raises(ValidationError):
        Vocabulary.load("world").kinds = {}
