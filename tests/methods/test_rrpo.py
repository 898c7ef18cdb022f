"""RRPO's pipeline, played by scripted models: exact rows, what is filtered and why; nothing depends on luck."""

import json

import pytest
from tests.sketches.play import Scripted as Player
from tests.sketches.play import Show, check, play, seen

from vlm_selfalign.core.driver import Driver
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Choose, Chosen, Failed, Generate, Text
from vlm_selfalign.core.rows import Demo, Labelled, Pair
from vlm_selfalign.methods.accepted import key_phrases
from vlm_selfalign.methods.rrpo import PERTURBED, rrpo
from vlm_selfalign.models.scripted import Scripted

CLIP = Media(kind="video", uri="a.mp4", content_hash="00")
RIGHT = "There is a red boat and a cup. The boat moves to the left. Finally a star appears."
WRONG = "There is a red boat and a cup. The boat moves to the right. Finally a star appears."


def sample(question="Describe the clip.", truth=None, *media):
    return Sample.of(Prompt.user(question, *(media or (CLIP,))), truth).seeded(0, 0)


def model(right, wrong, yes=0.01, **others):
    """Tells ``right`` of the clip as it is and ``wrong`` (a text for each draw) of the damaged one."""
    wrong = [wrong] if isinstance(wrong, str) else wrong

    def answer(request):
        if isinstance(request, Choose):
            return {"Yes": yes, "No": 1 - yes}
        for words, reply in others.items():
            if words in request.prompt.question:
                return reply
        return wrong[request.draw % len(wrong)] if request.prompt.media[0].views else right

    return Scripted(answer)


def candidates(player, subject, **settings):
    run = rrpo(vocabulary="world_clips", **settings)
    (finished,) = Driver({"policy": player}).run_block(run, [subject])
    assert not finished.error, finished.error
    return finished


def reason(player, subject, **settings):
    (row,) = candidates(player, subject, **settings).rows
    assert isinstance(row, Labelled) and row.label == 0
    return row.judgment


def test_the_right_answer_is_rejected_with_the_wrong_claim_alone():
    (candidate,) = candidates(model(RIGHT, WRONG), sample()).rows
    (pair,) = key_phrases()([candidate]).rows
    assert (pair.chosen, pair.rejected) == (RIGHT, WRONG)
    cut = [[text[a:b] for a, b in spans] for text, spans in ((RIGHT, pair.chosen_spans), (WRONG, pair.rejected_spans))]
    assert cut == [["left."], ["right."]]
    assert pair.prompt.media == (CLIP,) and pair.chosen_ends and pair.rejected_ends
    assert pair.notes == {"wrong": WRONG, "agreed": 1.0}


def test_every_wrong_answer_sees_its_own_mask_and_shuffle():
    player = model(RIGHT, WRONG)
    candidates(player, sample(), wrong=3)
    damaged = [r.prompt.media[0].views for r in player.requests if isinstance(r, Generate) and r.prompt.media[0].views]
    assert len(damaged) == 3 and len({views[0].seed for views in damaged}) == 3
    assert all({view.name: view.amount for view in views} == PERTURBED for views in damaged)
    checks = [r for r in player.requests if isinstance(r, Choose)]
    assert [r.prompt.question for r in checks] == ["Does the boat move to the right?"]
    assert all(r.prompt.media == (CLIP,) for r in checks)


def test_a_claim_the_model_stands_by_is_not_wrong():
    assert reason(model(RIGHT, WRONG, yes=0.9), sample()) == "answer to the perturbed clip is not denied"


def test_the_same_words_or_claims_are_right():
    retold = "A red boat and a cup are there. Then the boat moves left. A star appears."
    assert reason(model(RIGHT, RIGHT.lower()), sample()) == "answer to the perturbed clip is right"
    assert reason(model(RIGHT, retold), sample()) == "answer to the perturbed clip is right"


def test_a_wrong_sentence_without_a_counterpart_makes_no_pair():
    told = "At the very end, high up in the upper corner, some fish swims away upwards."
    assert reason(model(RIGHT, told), sample()) == "no sentence of the right answer is like a wrong one"


def test_equal_rewrites_are_one_pair_and_reasons_are_counted_apart():
    rows = candidates(model(RIGHT, [WRONG, f"{WRONG} ", f"I see. {WRONG}", RIGHT]), sample()).rows
    assert [type(row) for row in rows] == [Pair, Labelled]
    shaped = key_phrases()(rows)
    assert len(shaped.rows) == 1 and shaped.dropped == {"answer to the perturbed clip is right": 1}


def test_no_agreement_no_right_answer():
    texts = [RIGHT, "A fish swims up.", "There is a tree.", "Two balls vanish."]
    player = Scripted(lambda request: texts[request.draw])
    assert candidates(player, sample()).drop == "own answers do not agree"
    assert candidates(Scripted(lambda request: ""), sample()).drop == "fewer than two own answers"


def test_a_sample_without_a_clip_or_a_given_answer_is_dropped():
    blind = Sample.of(Prompt.user("Why?")).seeded(0, 0)
    assert candidates(model(RIGHT, WRONG), blind).drop == "no clip to perturb"
    assert candidates(model(RIGHT, WRONG), sample(), answers="given").drop == "no answer is given with the sample"


def test_a_clip_that_cannot_be_opened_is_dropped_with_its_reason():
    player = Scripted(lambda request: Failed(reason="no picture, only sound"))
    assert candidates(player, sample()).drop == "no picture, only sound"


MCQ = {"clip": "a.mp4", "answer": "B", "options": {"A": "it sinks", "B": "it sails"}}


@pytest.mark.parametrize(
    ("truth", "wrong", "pair"),
    [
        (MCQ, "A", ("B", "A")),
        (MCQ, "(A) it sinks.", ("B", "A")),
        (MCQ, "it sinks", ("B", "A")),
        ({"clip": "a.mp4", "answer": "yes"}, "No, it does not.", ("Yes", "No")),
        ("Yes", "no.", ("Yes", "No")),
        ({"answer": "The boat sails."}, "The boat sinks.", ("The boat sails.", "The boat sinks.")),
    ],
)
def test_given_answers(truth, wrong, pair):
    (row,) = candidates(model("never asked", wrong), sample("What does it do?", truth), answers="given").rows
    assert (row.chosen, row.rejected) == pair and "agreed" not in row.notes


@pytest.mark.parametrize(
    ("truth", "wrong", "why"),
    [
        (MCQ, "B", "answer to the perturbed clip is right"),
        (MCQ, "it sails", "answer to the perturbed clip is right"),
        (MCQ, "Perhaps both.", "answer to the perturbed clip names no option"),
        ({"clip": "a.mp4", "answer": "yes"}, "Yes, it does.", "answer to the perturbed clip is right"),
        ("No", "Who knows?", "answer to the perturbed clip names neither yes nor no"),
        ("Twice.", "", "empty answer to the perturbed clip"),
    ],
)
def test_given_answers_that_make_no_pair(truth, wrong, why):
    assert reason(model("never asked", wrong), sample("What does it do?", truth), answers="given") == why


def test_own_answers_read_no_truth():
    truths = [None, MCQ, {"events": [{"action": "appear", "kind": "fish"}]}]
    rows = [candidates(model("B", "A"), sample("What does it do?", truth)).rows for truth in truths]
    assert rows[0] == rows[1] == rows[2] and rows[0][0].chosen == "B"


def test_the_events_of_a_drawn_clip_are_a_given_answer():
    events = [
        {"action": "move", "kind": "boat", "direction": "left"},
        {"action": "appear", "kind": "star"},
    ]
    wrong = "The boat moves to the left. Then a fish appears."
    (row,) = candidates(model("-", wrong), sample(truth={"events": events}), answers="given").rows
    assert row.chosen == "The boat moves to the left. Then a star appears." and row.rejected == wrong


LISTED = {"List what": "- moves right instead of left", "Rewrite the right": WRONG}


def test_a_model_lists_the_errors_and_tells_the_right_answer_with_them():
    player = model(RIGHT, "It goes to the right.", **LISTED)
    (row,) = candidates(player, sample(), rewrite="model", judge="policy").rows
    assert (row.chosen, row.rejected) == (RIGHT, WRONG)
    retold = player.requests[-1].prompt
    assert [message.role for message in retold.messages] == ["user", "assistant", "user"] and not retold.media


def test_a_model_that_finds_no_difference_calls_it_right():
    player = model(RIGHT, "It goes left.", **{"List what": "None."})
    assert reason(player, sample(), rewrite="model") == "answer to the perturbed clip is right"
    player = model(RIGHT, "It goes left.", yes=0.9)
    assert reason(player, sample(), rewrite="model") == "answer to the perturbed clip is right"
    player = model(RIGHT, "It goes left.", **{"List what": "- left", "Rewrite the right": " "})
    assert reason(player, sample(), rewrite="model") == "empty rewrite"


def pair(chosen, rejected):
    return Pair(prompt=sample().prompt, chosen=chosen, rejected=rejected)


def test_spans_that_vanish_or_cover_everything_are_counted():
    rows = [
        pair("A boat sails.", "A  boat sails."),
        pair("A boat sails to the left side.", "Nothing of this kind ever happened."),
        pair("Yes", "No"),
        pair("The boat sails away.", "The boat slowly sails away."),
    ]
    shaped = key_phrases()(rows)
    assert shaped.dropped == {
        "spans vanished: both answers are the same words": 1,
        "more than 50% of the words differ": 1,
    }
    assert [(row.chosen_spans, row.rejected_spans) for row in shaped.rows] == [(((0, 3),), ((0, 2),)), ((), ((9, 15),))]


@method
def first() -> object:
    """A stage of this file: what ``check`` edits."""

    def run(sample):
        return [Demo(prompt=sample.prompt, answer="-")]

    return run


RECIPE = {
    "before": {"method": f"{__name__}:first"},
    "candidates": {"method": "rrpo", "samples": 3, "wrong": 3},
    "pairs": {"fold": "key_phrases", "rows": "candidates"},
}
KINDS = ("boat", "car", "fish", "kite", "cup", "ball", "house")


def policy(request, chance):
    """Tells of the one thing that is there; of a damaged clip often of another one. Knows better when asked back."""
    there = seen(request.prompt)
    if isinstance(request, Choose):
        return Chosen(
            choices=request.choices, logprobs=(0.0, -9.0) if there in request.prompt.question else (-9.0, 0.0)
        )
    named = chance.choice(KINDS) if request.prompt.media[0].views else there
    return Text(text=f"There is a {named}. The {named} moves {chance.choice(['left', 'left', 'up'])}.")


SHOW = Show(
    RECIPE,
    lambda: {"policy": Player(policy)},
    [
        Sample.of(Prompt.user("Describe the clip.", Media(kind="video", uri=f"{kind}.mp4", content_hash=kind)))
        for kind in KINDS
    ],
)


def test_plays_the_same_however_it_is_run():
    played = check(SHOW, kills=3)
    pairs = played.made[0, "pairs"]
    assert len(pairs) >= 4 and sum(played.drops.values()) >= 1
    for row in pairs:
        kind = row.prompt.media[0].content_hash
        assert kind in row.chosen and row.chosen != row.rejected and row.chosen_spans and row.rejected_spans
        changed = {row.rejected[a:b].strip(".") for a, b in row.rejected_spans}
        assert changed and not {"There", "is", "a", "The", "moves"} & changed


def test_rows_survive_the_disk():
    rows = play(SHOW).made[0, "candidates"]
    assert {row.kind for row in rows} == {"pair", "labelled"}
    assert all(json.loads(row.model_dump_json()) for row in rows)
