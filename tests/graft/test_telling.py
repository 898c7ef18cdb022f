"""Descriptions and answers that the grafted model learns: readable, and true where they must be."""

from collections import Counter

import pytest

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.captions import caption
from vlm_selfalign.data.world.questions import TASKS, asked
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.graft.gate import CLEAR, right
from vlm_selfalign.graft.lessons import exchanges, sentence
from vlm_selfalign.graft.telling import FIRST, FORMS, TEACHER, told
from vlm_selfalign.graft.text_only import EASY, KNOWN, PROMPTS
from vlm_selfalign.graft.tower import RICH
from vlm_selfalign.scoring.claims import claimed, read_claims
from vlm_selfalign.scoring.vocabulary import Vocabulary

SCENES = [scene(index, "dev", 0, RICH) for index in range(150)]
WORLD = Vocabulary.load("world")


def test_a_description_is_read_back_as_it_was_meant():
    for index, one in enumerate(SCENES):
        mentions = caption(one, rng("told", index), TEACHER)
        found = {(claim.kind, claim.colour) for claim in claimed(read_claims(told(one, rng("told", index)), WORLD))}
        assert {kind for kind, _ in found} == {mention.kind for mention in mentions}
        meant = {mention.kind: mention.colour for mention in mentions}
        assert all(colour in (None, meant[kind]) for kind, colour in found)


def test_a_kind_stands_before_its_colour():
    for form in FORMS:
        assert "{colour}" not in form.template.split("{kind}")[0]


def test_the_colour_of_what_is_hard_to_see_is_mostly_left_out():
    silent = {"hard": [], "clear": []}
    for index, one in enumerate(SCENES):
        known = truth(one, TEACHER)
        hard = {item["kind"]: bool(item["hard"]) for item in known["objects"] if known["counts"][item["kind"]] == 1}
        for claim in claimed(read_claims(told(one, rng("told", index)), WORLD)):
            if claim.kind in hard:
                silent["hard" if hard[claim.kind] else "clear"].append(claim.colour is None)
    assert sum(silent["hard"]) > 0.7 * len(silent["hard"])
    assert sum(silent["clear"]) < 0.3 * len(silent["clear"])


def test_openings_claim_nothing():
    assert all(not list(read_claims(text, WORLD)) for text in FIRST)


def test_both_sources_of_falsehood_are_there():
    why = Counter(
        mention.why for index, one in enumerate(SCENES) for mention in caption(one, rng("told", index), TEACHER)
    )
    assert why["planted"] > 20 and why["mistaken"] > 20
    assert why["mistaken"] >= 0.4 * (why["planted"] + why["mistaken"])


@pytest.mark.parametrize("task", TASKS)
def test_a_sentence_gives_the_right_answer_and_no_other(task):
    for index, one in enumerate(SCENES[:40]):
        questions = asked(truth(one, RICH), task, rng(task, index))
        for question in questions:
            assert right(question, sentence(question)), (question, sentence(question))
            others = {q.answer: q for q in questions if q.text == question.text and q.answer != question.answer}
            assert not any(right(other, sentence(question)) for other in others.values())


def test_yes_and_no_are_asked_alike():
    words = Counter(
        exchange.answer.split(",")[0]
        for index, one in enumerate(SCENES)
        for exchange in exchanges(one, RICH, rng("yes", index), 0.0)
        if exchange.answer.startswith(("Yes", "No,"))
    )
    assert 0.45 < words["Yes"] / (words["Yes"] + words["No"]) < 0.55


def test_clear_scenes_have_nothing_hard():
    for index in range(30):
        assert not any(item["hard"] for item in truth(scene(index, "test", 5, CLEAR), CLEAR)["objects"])


def test_what_measures_knowledge_is_not_learnt():
    assert len(EASY) == 30
    learnt = {*PROMPTS, *(question for question, _ in KNOWN)}
    assert not {question for question, _ in EASY} & learnt
