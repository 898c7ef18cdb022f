"""A script answers every kind of request, and needs no torch."""

import math
import subprocess
import sys

import pytest

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import (
    Call,
    Choose,
    Chosen,
    Embed,
    Failed,
    Generate,
    Ground,
    Score,
    Scored,
    Text,
    Value,
)
from vlm_selfalign.models.scripted import Scripted

CAT = Prompt.user("Is there a cat?", Media(kind="image", uri="a.png", content_hash="a"))


def one(replies, request):
    (reply,) = Scripted(replies).serve([request], [0])
    return reply


def test_a_text_answers_generate_and_starts_with_the_opening():
    assert one({"Is there a cat?": "Yes."}, Generate(prompt=CAT)) == Text(text="Yes.")
    assert one({"Is there a cat?": " it is."}, Generate(prompt=CAT.opened("Yes,"))).text == "Yes, it is."
    assert one({"Is there a cat?": "Yes, it is."}, Generate(prompt=CAT.opened("Yes,"))).text == "Yes, it is."
    assert one({"Is there a cat?": {"text": "Y", "ids": [1], "finish": "stop"}}, Generate(prompt=CAT)).finish == "stop"


def test_a_list_under_a_question_holds_one_text_per_draw():
    script = Scripted({"Is there a cat?": ["a", "b"]})
    replies = script.serve([Generate(prompt=CAT, draw=draw) for draw in (1, 0, 5)], [0, 0, 0])
    assert [reply.text for reply in replies] == ["b", "a", "b"]


def test_probabilities_answer_choose_and_the_rest_is_shared():
    reply = one({"Is there a cat?": {"Yes": 0.9}}, Choose(prompt=CAT))
    assert isinstance(reply, Chosen)
    assert reply.probs == pytest.approx((0.9, 0.1))
    sure = one({"Is there a cat?": "No"}, Choose(prompt=CAT))
    assert sure.logprobs == (-math.inf, 0.0) and sure.best == "No"
    three = one({"Is there a cat?": {"b": 0.5}}, Choose(prompt=CAT, choices=("a", "b", "c")))
    assert three.probs == pytest.approx((0.25, 0.5, 0.25))
    with pytest.raises(ValueError, match="offers"):
        one({"Is there a cat?": {"Maybe": 1}}, Choose(prompt=CAT))


def test_numbers_answer_score():
    reply = one({"Is there a cat?": -0.5}, Score(prompt=CAT, answer="A small cat"))
    assert isinstance(reply, Scored) and reply.logprobs == (-0.5,) * 4
    assert len(one({"Is there a cat?": -0.5}, Score(prompt=CAT, answer="A cat", ends=False)).logprobs) == 2
    assert one({"Is there a cat?": [-1, -2]}, Score(prompt=CAT, answer="x")).logprobs == (-1.0, -2.0)


def test_json_answers_the_other_kinds():
    script = Scripted({"a cat": 0.3, "run": {"ok": True}, "clip": [[1.0, 0.0]]})
    asked = [Ground(text="a cat", media=CAT.media[0]), Call(to="run", arguments={}), Embed(items=("x",))]
    assert script.serve(asked, [0, 0, 0]) == [Value(value=0.3), Value(value={"ok": True}), Value(value=[[1.0, 0.0]])]


def test_functions_see_the_request_and_replies_pass_through():
    answer = Scripted(lambda request: Text(text="y") if isinstance(request, Generate) else {"Yes": 1.0})
    text, chosen = answer.serve([Generate(prompt=CAT), Choose(prompt=CAT)], [4, 5])
    assert text == Text(text="y") and chosen.best == "Yes"
    assert answer.requests == [Generate(prompt=CAT), Choose(prompt=CAT)] and answer.seeds == [4, 5]
    assert one(
        {"Is there a cat?": lambda request: request.prompt.question.upper()}, Generate(prompt=CAT)
    ).text.isupper()


def test_a_list_answers_in_order_and_what_is_not_scripted_fails():
    script = Scripted(["a", Failed(reason="no")])
    replies = script.serve([Generate(prompt=CAT)] * 3, [0] * 3)
    assert replies[0] == Text(text="a") and replies[1] == Failed(reason="no")
    assert isinstance(replies[2], Failed) and "Is there a cat?" in replies[2].reason
    assert isinstance(one({}, Choose(prompt=CAT)), Failed)
    with pytest.raises(TypeError, match="script"):
        one({"Is there a cat?": 3}, Generate(prompt=CAT))


def test_identity_and_batch_size_are_as_given():
    script = Scripted({}, identity="me", batch_size=5)
    assert (script.identity, script.batch_size) == ("me", 5)


def test_it_does_not_load_torch():
    code = (
        "import sys, vlm_selfalign.models.scripted; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
