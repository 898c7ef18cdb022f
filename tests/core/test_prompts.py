"""Prompts are values: every change gives a new one, and the media stay in step with the words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Message, Prompt, Sample

PHOTO = Media(kind="image", uri="a.png", content_hash="aa")
CLIP = Media(kind="video", uri="b.mp4", content_hash="bb", start=1.0, end=2.5)


def test_media_come_first_and_are_typed_in_the_chat():
    prompt = Prompt.user("Compare.", PHOTO, CLIP, system="Be brief.")
    assert prompt.chat() == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "Compare."}]},
    ]


@pytest.mark.parametrize(
    ("parts", "media"), [((0,), ()), (("a",), (PHOTO,)), ((1, 0), (PHOTO, CLIP)), ((0, 0), (PHOTO,))]
)
def test_parts_must_show_each_media_once_in_order(parts, media):
    with pytest.raises(ValidationError, match="each once, in order"):
        Prompt(messages=(Message(role="user", parts=parts),), media=media)


def test_then_goes_on_with_an_open_turn_and_starts_one_after_an_answer():
    prompt = Prompt.user("Look.", PHOTO)
    assert prompt.then("What is it?").question == "Look.\nWhat is it?"
    turns = prompt.answered("A cat.").then("Sure?")
    assert [(m.role, m.text) for m in turns.messages] == [("user", "Look."), ("assistant", "A cat."), ("user", "Sure?")]
    assert turns.media == (PHOTO,)


def test_then_on_pictures_alone_adds_no_gap():
    assert Prompt.user("", PHOTO).then("What is it?").question == "What is it?"


def test_asking_replaces_the_words_and_keeps_the_media():
    prompt = Prompt.user("Describe.", PHOTO, system="Be brief.").asking("Is there a cat?")
    assert prompt.question == "Is there a cat?" and prompt.media == (PHOTO,) and prompt.messages[0].text == "Be brief."
    with pytest.raises(ValueError, match="use then"):
        prompt.answered("Yes").asking("Sure?")


def test_an_opening_grows_and_ends_with_the_answer_it_opens():
    prompt = Prompt.user("Describe.", PHOTO).opened("There").opened(" is")
    assert prompt.opening == "There is"
    assert prompt.answered("There is a cat.").then("Sure?").opening == ""


def test_told_replaces_the_system_message():
    prompt = Prompt.user("q", system="old").told("new")
    assert [m.text for m in prompt.messages] == ["new", "q"]


def test_blind_drops_media_and_no_word():
    prompt = Prompt.user("q", PHOTO, CLIP).answered("a").then("r").opened("o")
    blind = prompt.blind()
    assert blind.media == () and blind.opening == "o"
    assert [m.text for m in blind.messages] == [m.text for m in prompt.messages]
    assert blind == blind.blind() == Prompt.user("q").answered("a").then("r").opened("o")


def test_views_stack_lazily_and_count():
    prompt = Prompt.user("q", PHOTO, CLIP)
    viewed = prompt.viewed("noise", 0.5, seed=3).viewed("grey")
    assert [view.name for view in viewed.media[1].views] == ["noise", "grey"]
    assert len({prompt.digest, prompt.viewed("noise", 0.5).digest, viewed.digest}) == 3


def test_a_path_is_no_content():
    moved = PHOTO.model_copy(update={"uri": "elsewhere/a.png"})
    assert Prompt.user("q", moved).digest == Prompt.user("q", PHOTO).digest
    other = PHOTO.model_copy(update={"content_hash": "cc"})
    assert Prompt.user("q", other).digest != Prompt.user("q", PHOTO).digest
    assert Prompt.user("q", CLIP.model_copy(update={"end": 3.0})).digest != Prompt.user("q", CLIP).digest


@given(st.text(), st.text(), st.text())
def test_prompts_survive_the_disk(text, system, opening):
    prompt = Prompt.user(text, PHOTO, CLIP, system=system).viewed("blur", 0.1).opened(opening)
    again = Prompt.model_validate_json(prompt.model_dump_json())
    assert again == prompt and again.digest == prompt.digest and hash(again) == hash(prompt)


def test_samples_are_named_by_content_and_have_their_own_chance():
    sample = Sample.of(Prompt.user("q", PHOTO), truth={"answer": 1})
    assert sample.id == Sample.of(Prompt.user("q", PHOTO)).id != Sample.of(Prompt.user("r", PHOTO)).id
    first, second = sample.seeded(0, 0), sample.seeded(0, 1)
    draws = [s.rng(label).random() for s in (first, first.seeded(0, 0), second) for label in ("a", "b")]
    assert draws[:2] == draws[2:4] and len(set(draws)) == 4
