"""Adapters that act on answers alone: a prompt stays the base model's, in training, on a tree and in answering."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from train.made import photo_pairs, spec_for
from vlm_selfalign.config import LoraSettings, ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.models.answer_adapters import acts_on_answers, from_opening, opening_of
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.hf import HFService
from vlm_selfalign.models.load import load
from vlm_selfalign.train.answers import AnswerEngine, quarrel
from vlm_selfalign.train.batch import Collator, prepare
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.fit import fit
from vlm_selfalign.train.policy import learner
from vlm_selfalign.train.score import score_tokens
from vlm_selfalign.train.texts import Texts

ANSWERS = ModelSettings(device="cpu", lora=LoraSettings(r=4, acts="answers"))
LOSS = resolve("loss", "span_dpo")()


@pytest.fixture
def learns(qwen):
    torch.manual_seed(0)
    found = learner(str(qwen), str(qwen), ANSWERS, ())
    with torch.no_grad():
        for p in found.model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return found


def made(learns, rows):
    maker = Texts(Encoder.of(learns.loaded), opening=acts_on_answers(learns.model).opening)
    return Collator(prepare(rows, LOSS, maker, None)[0], LOSS, maker)


def gradients(learns, logp_NT):
    sign_N = torch.tensor([(-1.0) ** n for n in range(len(logp_NT))])
    params = [p for p in learns.model.parameters() if p.requires_grad]
    return torch.autograd.grad((logp_NT.sum(1) * sign_N).sum(), params)


def test_a_tree_gives_what_whole_sequences_give(learns, photos):
    collator = made(learns, photo_pairs([photos[0], photos[0], photos[1]], 3))
    texts = [text for item in collator.items for text in item.texts.values()]
    batch = collator.plain(texts)
    slow = score_tokens(learns.model, batch["inputs"], batch["answer"]).logp_NT
    wanted = gradients(learns, slow)
    engine, planner = AnswerEngine(Vision()), Planner(learns.model, collator.maker)
    fast = engine.score(learns.model, planner(texts), batch["answer"][:, 1:]).logp_NT
    assert engine.forwards == 1 and torch.allclose(fast, slow, atol=1e-5)
    for one, other in zip(gradients(learns, fast), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * max(1.0, float(other.abs().max())))
    learns.model.set_adapter("default")
    with learns.reference() as reference:
        off = score_tokens(reference, batch["inputs"], batch["answer"]).logp_NT
    assert not torch.allclose(off, slow, atol=1e-2)


def test_what_is_before_the_opening_is_the_base_models(learns, qwen, photos):
    collator = made(learns, photo_pairs(photos, 1))
    (item,) = collator.items
    inputs = collator.maker.inputs([item.texts["chosen"]])
    base = AutoModelForImageTextToText.from_pretrained(qwen)
    with torch.no_grad():
        ours, theirs = learns.model(**inputs).logits[0], base(**inputs).logits[0]
    first = int(from_opening(inputs["input_ids"], collator.maker.opening)[0].float().argmax())
    assert torch.equal(ours[:first], theirs[:first]) and first > 10
    assert not torch.isclose(ours[first:], theirs[first:]).all(1).any()


def test_peft_serves_what_was_saved(learns, photos, qwen, tmp_path):
    learns.save(tmp_path / "one")
    (tmp_path / "one" / "version.json").write_text(json.dumps({"base": str(qwen)}))
    assert acts_on_answers(learns.model) and learns.model.peft_config["default"].alora_invocation_tokens is None
    loaded = load(ModelSettings(path=str(tmp_path / "one"), device="cpu"))
    prompt = Prompt.user("describe the picture", photos[0])
    two = [Generate(prompt=p, sampling=Sampling(max_tokens=8)) for p in (prompt, Prompt.user("what is it ?"))]
    replies = HFService(loaded).serve(two, [0, 1])
    peft = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(qwen), str(tmp_path / "one"))
    for reply, request in zip(replies, two, strict=True):
        inputs = Encoder.of(loaded).batch([request.prompt]).inputs
        ids = peft.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
        assert tuple(ids[: len(reply.ids)]) == reply.ids and reply.ids
    base = HFService(load(ModelSettings(path=str(qwen), device="cpu"))).serve(two, [0, 1])
    assert [reply.ids for reply in replies] != [reply.ids for reply in base]


def test_it_is_not_merged_and_stays_what_it_was(learns, qwen, tmp_path):
    learns.save(tmp_path / "one")
    (tmp_path / "one" / "version.json").write_text(json.dumps({"base": str(qwen)}))
    start = str(tmp_path / "one")
    with pytest.raises(UserError, match="cannot be merged"):
        learner(start, start, ModelSettings(device="cpu"), ())
    with pytest.raises(UserError, match=r"acts=everywhere, but .* act answers"):
        learner(start, start, ModelSettings(device="cpu", lora=LoraSettings(r=4)), ())
    with pytest.raises(UserError, match="sees the prompt"):
        eyes = LoraSettings(r=4, acts="answers", targets=("qkv",))
        learner(str(qwen), str(qwen), ModelSettings(device="cpu", lora=eyes), ())
    with pytest.raises(ValueError, match="what is seen belongs to the prompt"):
        LoraSettings(acts="answers", targets="all")


def test_a_fit_learns_the_same_on_trees_and_goes_on_from_itself(qwen, photos, tmp_path):
    model = {"lora": {"r": 2, "alpha": 4, "acts": "answers"}}
    given = {"loss": "rrpo", "settings": {"alpha": 0.1}, "model": model, "schedule": {"batch_size": 2, "epochs": 1}}
    curves = {}
    for engine, checkpointing in (("auto", True), ("plain", False)):
        training = {"engine": engine, "gradient_checkpointing": checkpointing}
        fitted = fit(spec_for(tmp_path / engine, photo_pairs(photos), qwen, training=training, **given))
        assert fitted.notes == ()
        curves[engine] = growing_lines(tmp_path / engine / "out" / "log.jsonl")
    for key in ("loss", "grad_norm", "kl/chosen"):
        assert [x[key] for x in curves["auto"]] == pytest.approx([x[key] for x in curves["plain"]], rel=1e-3, abs=1e-6)
    training = {"gradient_checkpointing": True, "engine": "plain"}  # one forward per backward is all that PEFT allows
    start = tmp_path / "auto" / "out"
    again = fit(spec_for(tmp_path / "two", photo_pairs(photos), start, training=training, **given))
    assert growing_lines(tmp_path / "two" / "out" / "log.jsonl")[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert again.notes == ()


def dialogue():
    """Two turns: what is the answer of the first row lies in the prompt of the second."""
    asked = Prompt.user("what is it ?")
    first = Pair(prompt=asked, chosen="a dog", rejected="a cat", index=0)
    return [first, Pair(prompt=asked.answered("a dog").then("is it red ?"), chosen="yes", rejected="no", index=1)]


def test_turns_of_a_dialogue_share_no_row(qwen, tmp_path):
    model = {"lora": {"r": 2, "alpha": 4, "acts": "answers"}}
    fitted = fit(spec_for(tmp_path, dialogue(), qwen, loss="span_dpo", model=model))
    assert len(fitted.notes) == 1 and "the answer of row /0//0 lies in the prompt of row /0//1" in fitted.notes[0]


def test_rows_without_a_quarrel(learns, photos):
    collator = made(learns, [*photo_pairs(photos), dialogue()[1]])
    assert quarrel(collator.items, collator.maker.opening) is None


def test_openings():
    ids = torch.tensor([[5, 7, 8, 1, 7, 8, 2], [7, 8, 1, 2, 3, 4, 0], [1, 1, 1, 1, 1, 1, 1]])
    assert from_opening(ids, (7, 8)).tolist() == [[False] * 4 + [True] * 3, [True] * 7, [False] * 7]
    assert opening_of([(1, 2, 9, 4), (3, 9, 4), (9, 9, 4)]) == (9, 4)
    with pytest.raises(UserError, match="writes nothing where an answer begins"):
        opening_of([(1, 2), (2, 1)])
