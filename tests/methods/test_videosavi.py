"""VideoSAVi played by scripted models: questions, answer, critique, revision; every guard; rounds; CLIP."""

from random import Random

import pytest
from tests.sketches.play import Scripted as Player
from tests.sketches.play import Show, check, play, seen

from vlm_selfalign.core.driver import Driver
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.requests import Choose, Chosen, Generate, Ground, Text, Value
from vlm_selfalign.core.rows import Demo, Labelled, Pair
from vlm_selfalign.methods.accepted import accepted
from vlm_selfalign.methods.questions import ask_questions
from vlm_selfalign.methods.videosavi import CRITICISE, REVISE, videosavi
from vlm_selfalign.methods.videosavi_v1 import videosavi_v1
from vlm_selfalign.models.scripted import Scripted
from vlm_selfalign.scoring.self_asked import questions_in

CLIP = Media(kind="video", uri="a.mp4", content_hash="00")
SAMPLE = Sample.of(Prompt.user("Describe the clip.", CLIP)).seeded(0, 0)
QUESTION = Demo(prompt=SAMPLE.prompt, answer="What does the boat do?", notes={"asks": "temporal"})
ANSWER, REVISION = "The boat moves to the right.", "The boat moves to the left."
CRITIQUE = "The direction is wrong: it moves to the left."


def finished(run, player, *questions, **players):
    steps = (lambda s: run(s, list(questions))) if questions else run
    (found,) = Driver({"policy": player, **players}).run_block(steps, [SAMPLE])
    assert not found.error, found.error
    return found


# Questions


def test_each_kind_is_asked_once_with_the_clip_in_view():
    lists = iter(["1. Where is the boat?\n2. What colour is the cup?\n3. Is it big?", "- What happens first?"])
    player = Scripted(lambda request: next(lists))
    rows = finished(ask_questions(spatial=2, temporal=2, given=("Who moves?",)), player).rows
    assert [(row.answer, row.notes["asks"]) for row in rows] == [
        ("Where is the boat?", "spatial"),
        ("What colour is the cup?", "spatial"),
        ("What happens first?", "temporal"),
        ("Who moves?", "given"),
    ]
    assert len(player.requests) == 2 and all(request.prompt.media == (CLIP,) for request in player.requests)


def test_an_unreadable_reply_costs_its_kind_alone_and_is_counted():
    replies = iter(["I see a boat.", "What happens then?\nWhat happens then?\nWhy?"])
    rows = finished(ask_questions(spatial=1, temporal=3), Scripted(lambda request: next(replies))).rows
    assert [type(row) for row in rows] == [Labelled, Demo]
    assert accepted()(rows[:1]).dropped == {"spatial question: unparsed: expected questions": 1}


def test_a_question_is_read_out_of_what_surrounds_it():
    assert questions_in("**Q1:** Where is the cup? (on the left)\n") == ["Where is the cup?"]
    assert questions_in("1) Where is the cup? It is red.") == ["Where is the cup?"]


def test_nothing_is_asked_about_words_alone():
    blind = Sample.of(Prompt.user("Hello.")).seeded(0, 0)
    (found,) = Driver({"policy": Scripted({})}).run_block(ask_questions(), [blind])
    assert found.drop and "no picture or clip" in found.drop


# Revision


def model(answer=ANSWER, critique=CRITIQUE, revision=REVISION, judge=lambda first, second: REVISION in first):
    def reply(request):
        question = request.prompt.question
        if isinstance(request, Choose):
            _, first, second, _ = question.split("\n")
            return {"A": 0.9, "B": 0.1} if judge(first, second) else {"A": 0.1, "B": 0.9}
        return {CRITICISE: critique, REVISE: revision}.get(question, answer)

    return Scripted(reply)


def one(player, **settings):
    (row,) = finished(videosavi(**settings), player, QUESTION).rows
    return row


def test_the_revision_is_chosen_over_the_answer():
    player = model()
    row = one(player)
    assert (row.prompt.question, row.chosen, row.rejected) == (QUESTION.answer, REVISION, ANSWER)
    assert row.prompt.media == (CLIP,) and len(row.prompt.messages) == 1, "the critique is in the training prompt"
    assert row.notes == {"asks": "temporal", "critique": CRITIQUE, "leaked": False, "preferred": [0.9, 0.9]}
    assert [request.prompt.question for request in player.requests[:3]] == [QUESTION.answer, CRITICISE, REVISE]
    assert all(request.prompt.media == (CLIP,) for request in player.requests), "somebody answered blind"
    revised = player.requests[2].prompt.messages
    assert [message.text for message in revised] == [QUESTION.answer, ANSWER, CRITICISE, CRITIQUE, REVISE]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"answer": " "}, "empty answer"),
        ({"critique": ""}, "empty critique"),
        ({"revision": "\n"}, "empty revision"),
        ({"critique": "No errors."}, "critique only praises"),
        ({"critique": "The answer is correct and very precise. Well done!"}, "critique only praises"),
        ({"revision": "the boat moves to the right"}, "revision is the answer"),
        ({"revision": "Revised answer: The boat moves to the right."}, "revision is the answer"),
        ({"revision": "The previous answer was wrong."}, "revision speaks of the critique only"),
        ({"revision": " ".join([REVISION] * 3)}, "one side more than 2 times as long as the other"),
        ({"revision": "Left."}, "one side more than 2 times as long as the other"),
        ({"judge": lambda first, second: ANSWER in first}, "own judge prefers the other answer"),
        ({"judge": lambda first, second: True}, "own judge goes by the position"),
        ({"judge": lambda first, second: False}, "own judge goes by the position"),
    ],
)
def test_guards(given, why):
    row = one(model(**given))
    assert isinstance(row, Labelled) and row.judgment == why
    shaped = accepted()([row])
    assert not shaped.rows and shaped.dropped == {why: 1}


def test_talk_of_the_critique_is_stripped_and_its_end_not_learnt():
    row = one(model(revision=f"Sure! Here is the revised answer: {REVISION} I have corrected the direction."))
    assert row.chosen == REVISION and row.notes["leaked"]
    assert not row.chosen_ends and not row.rejected_ends


def test_praise_with_a_complaint_is_a_critique():
    assert isinstance(one(model(critique="Mostly correct, but it moves to the left.")), Pair)


def test_unread_questions_are_passed_on_to_be_counted_and_no_question_drops_the_clip():
    unread = Labelled(prompt=SAMPLE.prompt, answer="?", label=0.0, judgment="spatial question: unparsed")
    rows = finished(videosavi(), model(), unread, QUESTION).rows
    assert accepted()(rows).dropped == {"spatial question: unparsed": 1} and len(accepted()(rows).rows) == 1
    (found,) = Driver({"policy": model()}).run_block(lambda s: videosavi()(s, []), [SAMPLE])
    assert found.drop == "no question"


# Several answers and CLIP

ANSWERS = ["The boat sinks.", "The boat sails.", "A boat flies.", "The boat sinks."]
OWN = {"The boat sinks.": 0.6, "The boat sails.": 0.5, "A boat flies.": 0.1}
FITS = {"The boat sinks.": 0.2, "The boat sails.": 0.3, "A boat flies.": 0.25}


def several(request):
    if isinstance(request, Generate):
        return ANSWERS[request.draw]
    question = request.prompt.question
    if "A" in request.choices:
        _, first, second, _ = question.split("\n")
        return "A" if OWN[first[10:]] > OWN[second[10:]] else "B"
    return {"Yes": next(p for answer, p in OWN.items() if answer in question)}


def test_best_over_worst_by_own_judgement_and_clip():
    eyes = Scripted(lambda request: FITS[request.text])
    (row,) = finished(videosavi_v1(), Scripted(several), QUESTION, clip=eyes).rows
    assert (row.chosen, row.rejected) == ("The boat sails.", "A boat flies.")
    assert row.margin == pytest.approx(-10 * (0.3 - 0.25))
    assert row.notes == {"asks": "temporal", "own": pytest.approx([0.5, 0.1]), "clip": [0.3, 0.25]}
    assert {request.text for request in eyes.requests} == set(FITS)
    (alone,) = finished(videosavi_v1(clip=""), Scripted(several), QUESTION).rows
    assert alone.chosen == "The boat sinks." and alone.margin == 0


def test_a_missing_clip_model_is_counted_and_makes_no_pair():
    (row,) = finished(videosavi_v1(), Scripted(several), QUESTION, clip=Scripted({})).rows
    assert isinstance(row, Labelled) and row.judgment.startswith("no similarity: ")


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (["Same.", "same", "Same!", " "], "answers are all the same"),
        (["The boat sails.", "It sails away to the far left, and then comes back again, twice."] * 2, "one side more"),
    ],
)
def test_answers_that_cannot_be_compared(answers, why):
    def reply(request):
        return answers[request.draw] if isinstance(request, Generate) else {"Yes": 0.5 + ("far" in str(request)) / 9}

    (row,) = finished(videosavi_v1(clip=""), Scripted(reply), QUESTION).rows
    assert row.judgment.startswith(why)


# However it is run


@method
def first() -> object:
    """A stage of this file: what ``check`` edits."""

    def run(sample):
        return [Demo(prompt=sample.prompt, answer="-")]

    return run


def policy(version):
    """Once it has learnt, its first answer is right."""

    def answer(request, chance):
        there, question = seen(request.prompt), request.prompt.question
        if isinstance(request, Choose):
            if "Yes" in request.choices:
                return Chosen(choices=request.choices, logprobs=(0.0, -3.0) if there in question else (-3.0, 0.0))
            good = there in question.split("\n")[1]
            return Chosen(choices=request.choices, logprobs=(0.0, -3.0) if good else (-3.0, 0.0))
        if question.startswith("Ask "):
            return Text(text=chance.choice(["What is there?\nWhat happens first?", "Who moves then?", "No idea."]))
        if question == CRITICISE:
            return Text(text="No errors." if there == "cup" else f"It is wrong: it is a {there}.")
        if question == REVISE:
            return Text(text=f"It is a {there}, I think.")
        said = there if version or chance.random() < 0.2 else chance.choice(["cat", "dog"])
        return Text(text=f"It is a {said}, I think.")

    return Player(answer, identity=f"policy {version}")


def fit(rows, roles):
    return policy(int(roles["policy"].identity.split()[-1]) + 1)


def eyes(request, chance):
    assert isinstance(request, Ground)
    return Value(value=0.3 if request.media.content_hash in request.text else 0.2 + Random(request.text).random() / 50)


CLIPS = [
    Sample.of(Prompt.user("Describe the clip.", Media(kind="video", uri=f"{name}.mp4", content_hash=name)))
    for name in ("boat", "car", "fish", "kite", "cup", "ball")
]


def show(how, loss, rounds):
    recipe = {
        "before": {"method": f"{__name__}:first"},
        "questions": {"method": "ask_questions", "spatial": 2, "temporal": 1},
        "candidates": {"method": how},
        "pairs": {"fold": "accepted", "rows": "candidates"},
        "policy": {"fit": loss, "rows": "pairs"},
    }
    players = lambda: {"policy": policy(0), "clip": Player(eyes, identity="clip")}  # noqa: E731
    return Show(recipe, players, CLIPS, fits={loss: fit}, rounds=rounds)


def test_rounds_play_the_same_however_they_are_run_and_learn_from_the_round_before():
    played = check(show("videosavi", "dpo", 2), kills=5)
    first_round, second_round = (played.made[number, "pairs"] for number in (0, 1))
    assert len(first_round) >= 3 and not second_round, "the second round did not ask the model of the first"
    for row in first_round + second_round:
        kind = row.prompt.media[0].content_hash
        assert kind in row.chosen and kind not in row.rejected
    assert played.drops["critique only praises"] and played.drops["spatial question: unparsed: expected questions"]


def test_the_first_form_plays_the_same_however_it_is_run():
    played = check(show("videosavi_v1", "soft_dpo", 1), kills=5)
    pairs = played.made[0, "pairs"]
    assert pairs and all(row.margin < 0 for row in pairs)
    assert all(row.prompt.media[0].content_hash in row.chosen for row in pairs)


def test_only_what_is_new_is_asked_in_a_new_round():
    played = play(show("videosavi", "dpo", 1))
    assert {type(request) for request in played.asked} == {Generate, Choose}
