"""Portions of a step: what they hold, and that they change nothing that is learnt."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.made import photo_pairs, spec_for, text_pairs
from vlm_selfalign.config import ModelSettings, Schedule, TrainingSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.rows import Demo, Pair
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.train import trl
from vlm_selfalign.train.batch import Collator, Item, prepare
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.fit import fit
from vlm_selfalign.train.policy import learner
from vlm_selfalign.train.portions import Budget
from vlm_selfalign.train.remember import remember_reference
from vlm_selfalign.train.texts import Text, Texts

LORA = {"lora": {"r": 2, "alpha": 4}}


def item(*lengths, about="a"):
    """A row of words: texts of these lengths, which agree up to the shortest but one token."""
    prompt = Prompt.user(about)
    texts = [Text(prompt, "", True, (*range(n - 1), 1000 + n), 1, (True,), {}) for n in lengths]
    return Item(text_pairs(1)[0], dict(zip(("chosen", "rejected"), texts, strict=False)))


def test_tokens_are_counted_as_the_model_gets_them():
    rows = [item(10, 7), item(20, 5)]
    assert Budget(9).count(rows) == 4 * 20
    assert Budget(9, shared=True).count(rows) == 10 + 1 + 10 + 1 + 1 - 1 + 1  # 19 in a row, and an end for each
    assert Budget(9).count([]) == 0


@given(st.lists(st.tuples(st.integers(2, 40), st.integers(2, 40)), min_size=1, max_size=12), st.booleans())
def test_portions_hold_every_row_once_and_no_more_than_they_may(lengths, shared):
    rows = [item(*pair) for pair in lengths]
    budget = Budget(4, 100, shared)
    portions = budget.portions(rows, range(len(rows)))
    assert sorted(place for part in portions for place in part) == list(range(len(rows)))
    assert all(len(part) <= 4 and budget.count([rows[place] for place in part]) <= 100 for part in portions)
    halves = budget.portions(rows, range(len(rows)), fewer=2)
    assert sorted(place for part in halves for place in part) == list(range(len(rows)))
    assert max(map(len, halves)) <= (max(map(len, portions)) + 1) // 2


def test_rows_without_a_budget_are_shared_out_evenly():
    rows = [item(5, 4) for _ in range(10)]
    assert [len(part) for part in Budget(8).portions(rows, range(10))] == [5, 5]
    assert [len(part) for part in Budget(8).portions(rows, range(10), fewer=2)] == [3, 2, 3, 2]


def test_a_trees_tokens_are_known_before_it_is_planted(qwen, photos):
    trainer = trainer_of(qwen, photo_pairs([photos[0], photos[0], photos[1]], 6) + text_pairs(3), fast=True)
    collator = trainer.collator
    budget = Budget(9, shared=True, placeholders=tuple(collator.maker.encoder.placeholders))
    other = Pair(prompt=Prompt.user("another question", photos[0]), chosen="a", rejected="b")
    two = Pair(prompt=Prompt.user("describe the picture", photos[0], photos[1]), chosen="a", rejected="b")
    items = [*collator.items, *prepare([other, two], collator.loss, collator.maker, None)[0]]
    for rows in (items, items[:2], items[6:], items[::3]):
        tree = collator.planner([text for row in rows for text in row.texts.values()])
        assert budget.count(rows) == len(tree.ids_T)


def trainer_of(start, rows, loss="rrpo", fast=False, budget=None, double=False, **model):
    torch.manual_seed(0)
    loss = resolve("loss", loss)()
    learns = learner(str(start), str(start), ModelSettings(device="cpu", **model), ("vision",))
    if double:
        learns.model.double()
        learns.frozen.double()
    maker = Texts(Encoder.of(learns.loaded))
    items, _ = prepare(rows, loss, maker, None)
    args = trl.arguments(loss, Schedule(batch_size=len(items)), TrainingSettings(), len(items), "/tmp/none", 0, True)
    planner = Planner(learns.model, maker) if fast else None
    return trl.FitTrainer(
        learns, Collator(items, loss, maker, planner), args, Engine(Vision()) if fast else None, budget
    )


def stepped(trainer):
    """Loss and gradient of one step over all rows, of a policy that has learnt something."""
    remember_reference(trainer, 2)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    trainer.learner.same_start = False
    trainer.current_gradient_accumulation_steps = 1
    (batch,), _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, "cpu")
    loss = trainer.training_step(trainer.model, batch)
    return float(loss), {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["rrpo", "dpo", "sft"])
def test_in_float64_a_budget_changes_nothing(llama, loss):
    rows = text_pairs(7)
    if loss == "sft":
        rows = [Demo(prompt=row.prompt, answer=row.chosen, index=row.index) for row in rows]
    found = [stepped(trainer_of(llama, rows, loss, double=True, budget=b)) for b in (Budget(7), Budget(3, 170))]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    largest = max(float(grad.abs().max()) for grad in found[0][1].values())
    for name, grad in found[0][1].items():
        assert grad.dtype == torch.float64 and float((grad - found[1][1][name]).abs().max()) <= 1e-6 * largest, name


def curve(folder):
    return growing_lines(folder / "out" / "log.jsonl")


def test_a_row_over_the_budget_is_dropped_whole_and_named(qwen, photos, tmp_path):
    rows = photo_pairs(photos, 6)
    rows[4] = rows[4].model_copy(update={"chosen": "the red ball stands on the table . " * 12})
    fits = fit(spec_for(tmp_path / "cut", [*rows[:4], rows[5]], qwen, loss="dpo", training={"micro_batch": 4}))
    training = {"micro_batch": 4, "max_tokens": 110}
    fitted = fit(spec_for(tmp_path / "budget", rows, qwen, loss="dpo", training=training))
    assert fitted.dropped == {"over training.max_tokens=110 by itself": 1} and fitted.rows == fits.rows == 5
    told = growing_lines(tmp_path / "budget" / "out" / "dropped.jsonl")
    assert told == [{"row": rows[4].id, "reason": "over training.max_tokens=110 by itself"}]
    for key in ("loss", "grad_norm", "rewards/margins"):
        one, other = ([line[key] for line in curve(tmp_path / name)] for name in ("cut", "budget"))
        assert one == pytest.approx(other, rel=2e-4, abs=2e-5), key
    with pytest.raises(UserError, match="no row to learn from"):
        fit(spec_for(tmp_path / "none", rows, qwen, loss="dpo", training={"max_tokens": 20}))


def test_interrupted_with_a_budget_equals_uninterrupted(llama, tmp_path):
    given = {"loss": "rrpo", "model": LORA, "schedule": {"batch_size": 5, "epochs": 1, "group": "media"}}
    given["training"] = {"save_steps": 1, "micro_batch": 3, "max_tokens": 100}
    fit(spec_for(tmp_path / "whole", text_pairs(12), llama, **given))
    spec = spec_for(tmp_path / "cut", text_pairs(12), llama, **given)

    def stop(phase, done, total, line):
        if phase == "train" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(spec, stop)
    fit(spec)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole") and len(curve(tmp_path / "cut")) == 3
    one, other = ((tmp_path / name / "out" / "adapter_model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_rows_of_one_picture_share_its_look(qwen, photos, tmp_path, monkeypatch):
    """Times the tower ran in two epochs of 12 rows of 4 pictures, when it learns and so nothing is kept."""
    looks, real = [], Vision._seen
    monkeypatch.setattr(Vision, "_seen", lambda self, *given: looks.append(1) or real(self, *given))
    counts = {}
    for group in ("none", "media"):
        schedule = {"batch_size": 6, "freeze": ("embeddings",), "group": group}
        given = {"loss": "span_dpo", "schedule": schedule, "training": {"micro_batch": 6, "max_tokens": 400}}
        looks.clear()
        fit(spec_for(tmp_path / group, photo_pairs(photos, 12), qwen, **given))
        counts[group] = len(looks)
    before = 4 + 1  # under the frozen reference, and when the first row is looked at both ways
    assert counts["media"] == before + 2 * 4 and counts["none"] > before + 2 * 6, counts


@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_a_full_memory_halves_the_micro_batch_and_begins_the_step_again(llama, tmp_path, monkeypatch, caplog, engine):
    given = {"loss": "rrpo", "schedule": {"batch_size": 8}, "training": {"micro_batch": 4, "engine": engine}}
    fit(spec_for(tmp_path / "roomy", text_pairs(8), llama, **given))
    chance, texts, real = [], [], trl.FitTrainer.scores

    def scores(self, model, inputs):
        hook = model.lm_head.register_forward_pre_hook(full)
        texts.append(len(inputs["answer"]))
        try:
            return real(self, model, inputs)
        finally:
            hook.remove()

    def full(head, given):
        chance.append(torch.rand(1).item())
        if texts[-1] > 4 and len(texts) > 1:  # the second forward of the first step
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trl.FitTrainer, "scores", scores)
    fit(spec_for(tmp_path / "tight", text_pairs(8), llama, **given))
    assert texts == [8, 8] + [4] * 8, "8 rows by 4, then by 2 to the end"
    assert chance[2] == chance[0] != chance[1]
    assert caplog.text.count("out of memory") == 1 and "in 2 parts from here on" in caplog.text
    for key in curve(tmp_path / "roomy")[0].keys() - {"rewards/accuracies"}:
        one, other = ([line[key] for line in curve(tmp_path / name)] for name in ("roomy", "tight"))
        assert one == pytest.approx(other, rel=1e-4, abs=2e-6), key
