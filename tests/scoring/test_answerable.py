"""Held against the drawn world's own questions: each is answerable of the clip it was made of."""

import pytest

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.clips.questions import CLIP_TASKS, asked_of_clip
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.scoring.answerable import is_answerable, question_kind
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORDS = Vocabulary.load("world_clips")
TRUTH = {
    "objects": [{"kind": "boat", "colour": "red"}, {"kind": "cup", "colour": "blue"}],
    "events": [
        {"action": "move", "kind": "boat", "direction": "left"},
        {"action": "appear", "kind": "fish"},
        {"action": "move", "kind": "cup", "direction": "up"},
        {"action": "move", "kind": "cup", "direction": "down"},
    ],
}


@pytest.mark.parametrize("index", range(8))
def test_the_worlds_own_questions_are_answerable(index):
    settings = ClipSettings()
    truth = clip_truth(story(index, settings=settings), settings)
    asked = [q.text for task in CLIP_TASKS for q in asked_of_clip(truth, task, rng("answerable", task, index))]
    assert asked and [text for text in asked if not is_answerable(text, truth, WORDS)] == []
    assert len({question_kind(text) for text in asked}) >= 5


@pytest.mark.parametrize(
    ("question", "kind", "fits"),
    [
        ("What colour is the red boat?", "colour", True),
        ("What colour is the house?", "colour", False),
        ("Is there a house in the clip?", "existence", True),
        ("Which way does the boat move?", "direction", True),
        ("Which way does the cup move?", "direction", False),  # up, then down
        ("Which way does the house move?", "direction", False),
        ("What happens after the boat moves to the left?", "order", True),
        ("What happens after the boat vanishes?", "order", False),
        ("When does a fish appear?", "time", True),
        ("Where does the boat vanish?", "place", False),
        ("Where is the vase on the table?", "place", False),  # no word of the world's, and not there
        ("Which moves first, the boat or the cup?", "order", True),
        ("Which vanishes first, the boat or the cup?", "order", False),
        ("How many objects are there at the end?", "count", True),
        ("Does the boat meet the cup?", "did it happen", True),
        ("Why does the clip end?", "reason", True),
        ("Boat the of?", None, False),
    ],
)
def test_what_is_taken_for_granted_must_hold(question, kind, fits):
    assert (question_kind(question), is_answerable(question, TRUTH, WORDS)) == (kind, fits)


def test_nothing_is_said_without_a_truth_or_where_any_noun_is_a_thing():
    assert is_answerable("Where is the boat?", None, WORDS) is None
    assert is_answerable("Where is the boat?", TRUTH, Vocabulary.load("open")) is None
