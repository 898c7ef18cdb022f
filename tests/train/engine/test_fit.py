"""The engine inside a fit: the same curve as the plain way, the reference asked once, and why it is not used."""

import pytest
import torch

from train.engine.made import hybrid
from train.made import photo_pairs, spec_for, text_pairs
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.train import remember
from vlm_selfalign.train.engine import checks
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.fit import fit

LORA = {"lora": {"r": 2, "alpha": 4}}


@pytest.fixture
def ran(monkeypatch):
    """Backends of the engine's forwards."""
    found, real = [], Engine._hidden

    def noted(self, *args):
        made = real(self, *args)
        found.append(self.backend)
        return made

    monkeypatch.setattr(Engine, "_hidden", noted)
    return found


def curves(folder, rows, start, **given):
    """The logged steps, fast and plain."""
    made = {}
    for engine in ("auto", "plain"):
        training = {"micro_batch": 4, "engine": engine, **given.get("training", {})}
        fitted = fit(spec_for(folder / engine, rows, start, **{**given, "training": training}))
        made[engine] = growing_lines(folder / engine / "out" / "log.jsonl")
        assert not any("by itself" in note for note in fitted.notes)
    return made["auto"], made["plain"]


@pytest.mark.parametrize("loss, model", [("dpo", LORA), ("rrpo", {}), ("rrpo", LORA), ("sft", {})])
def test_the_curve_is_the_plain_one(qwen, photos, tmp_path, loss, model, ran):
    rows = photo_pairs(photos, 6)
    if loss == "sft":
        rows = [Demo(prompt=row.prompt, answer=row.chosen, index=row.index) for row in rows]
    fast, plain = curves(tmp_path, rows, qwen, loss=loss, model=model, schedule={"epochs": 2})
    assert ran and set(ran) == {"split"} and len(fast) == len(plain) == 4
    for key in fast[0].keys() - {"rewards/accuracies"}:  # at the start all rewards are ties, and rounding decides
        assert [x[key] for x in fast] == pytest.approx([x[key] for x in plain], rel=2e-4, abs=2e-5), key


def test_rows_with_and_without_pictures_and_checkpointing(qwen, photos, tmp_path, ran):
    rows = [*photo_pairs(photos), *text_pairs(4)]
    training = {"gradient_checkpointing": True}
    fast, plain = curves(tmp_path, rows, qwen, loss="rrpo", model=LORA, training=training)
    assert set(ran) == {"split"}
    assert [x["grad_norm"] for x in fast] == pytest.approx([x["grad_norm"] for x in plain], rel=1e-4)


def test_a_reference_that_was_interrupted_is_asked_for_the_rest_only(qwen, photos, tmp_path, monkeypatch):
    rows = photo_pairs(photos, 8)
    given = {"loss": "rrpo", "settings": {"alpha": 0.1}, "model": LORA}
    asked, real = [], remember._asked

    def noted(trainer, reference, texts, wants):
        asked.append(len(texts))
        return real(trainer, reference, texts, wants)

    def stop(phase, done, total, line):
        if phase == "reference" and done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(remember, "_asked", noted)
    fit(spec_for(tmp_path / "whole", rows, qwen, **given))
    assert asked == [4] * 4  # two rows of two texts at a time
    asked.clear()
    spec = spec_for(tmp_path / "cut", rows, qwen, **given)
    with pytest.raises(KeyboardInterrupt):
        fit(spec, stop)
    fit(spec)
    assert asked == [4] * 4, "something was asked twice"
    logs = [growing_lines(tmp_path / name / "out" / "log.jsonl") for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_attention_of_the_users_own_is_left_alone_and_said(qwen, photos, tmp_path, ran):
    model = {**LORA, "attention": "eager"}
    fitted = fit(spec_for(tmp_path, photo_pairs(photos), qwen, loss="span_dpo", model=model))
    assert not ran and len(fitted.notes) == 1 and "its attention is 'eager'" in fitted.notes[0]


def test_a_forward_that_disagrees_is_not_used(qwen, photos, tmp_path, monkeypatch):
    real = Planner.__call__

    def wrong(self, texts):
        tree = real(self, texts)
        tree.positions = tree.positions + (tree.depth_T > 20)
        return tree

    monkeypatch.setattr(Planner, "__call__", wrong)
    spec = spec_for(tmp_path / "checked", photo_pairs(photos), qwen, loss="span_dpo", model=LORA)
    fitted = fit(spec)
    assert len(fitted.notes) == 1 and "log-probs differ" in fitted.notes[0]
    monkeypatch.setattr(checks, "disagreement", lambda *args: None)
    fit(spec_for(tmp_path / "unchecked", photo_pairs(photos), qwen, loss="span_dpo", model=LORA))
    plain, misled = (growing_lines(tmp_path / name / "out" / "log.jsonl") for name in ("checked", "unchecked"))
    assert abs(plain[-1]["logps/chosen"] - misled[-1]["logps/chosen"]) > 1e-2, "the check guards against nothing"


def test_hybrids_fork_their_states(llama, tmp_path, ran):
    hybrid("qwen3_next", llama, tmp_path / "hybrid")
    training = {"gradient_checkpointing": True}  # which drops what a layer remembers, unless it is kept off
    given = {"loss": "rrpo", "model": LORA, "training": training, "schedule": {"epochs": 1}}
    fast, plain = curves(tmp_path, text_pairs(4), tmp_path / "hybrid", **given)
    assert set(ran) == {"forked"}
    assert [x["grad_norm"] for x in fast] == pytest.approx([x["grad_norm"] for x in plain], rel=1e-4)


def test_a_full_memory_halves_what_goes_through_at_once_and_keeps_the_step(qwen, photos, tmp_path, monkeypatch, caplog):
    rows = photo_pairs(photos, 8)
    given = {"loss": "rrpo", "model": LORA, "training": {"micro_batch": 4}, "schedule": {"batch_size": 8}}
    fit(spec_for(tmp_path / "roomy", rows, qwen, **given))
    real, calls = Engine._hidden, []

    def full(self, model, tree):
        calls.append(len(tree.places))
        if torch.is_grad_enabled() and len(calls) > 4 and len(tree.places) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, model, tree)

    monkeypatch.setattr(Engine, "_hidden", full)
    fit(spec_for(tmp_path / "tight", rows, qwen, **given))
    logs = [growing_lines(tmp_path / name / "out" / "log.jsonl") for name in ("roomy", "tight")]
    assert "in 2 parts from here on" in caplog.text and set(calls[-4:]) == {4}
    for key in ("loss", "grad_norm", "kl/chosen"):
        assert [x[key] for x in logs[1]] == pytest.approx([x[key] for x in logs[0]], rel=1e-4, abs=1e-6), key


def test_a_row_that_does_not_fit_is_said(qwen, photos, tmp_path, monkeypatch):
    real = Engine._hidden

    def full(self, model, tree):
        if torch.is_grad_enabled() and tree.depth_T.max() > 0 and full.armed:
            raise torch.OutOfMemoryError("CUDA out of memory")
        full.armed = full.armed or not torch.is_grad_enabled()  # the check before training fits
        return real(self, model, tree)

    full.armed = False
    monkeypatch.setattr(Engine, "_hidden", full)
    with pytest.raises(UserError, match="out of memory"):
        fit(spec_for(tmp_path, photo_pairs(photos), qwen, loss="span_dpo", model=LORA))
