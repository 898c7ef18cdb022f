import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from train.made import photo_pairs, spec_for, text_pairs, written
from vlm_selfalign.config import ModelSettings, Schedule, TrainingSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.models.load import load
from vlm_selfalign.train import checkpoint, policy, trl
from vlm_selfalign.train.alarms import NotFinite, WrongStart
from vlm_selfalign.train.dpo_family import TrlLoss
from vlm_selfalign.train.fit import fit, read_rows

LORA = {"lora": {"r": 2, "alpha": 4}}


class Killed(Exception):
    pass


def killed_at(step):
    def progress(phase, done, total, line):
        if phase == "train" and done == step:
            raise Killed

    return progress


def curve(out):
    return growing_lines(out / "log.jsonl")


def weights(out):
    return {k: v for path in out.glob("*.safetensors") for k, v in load_file(path).items()}


def test_loss_falls_from_ln_2_and_the_version_loads(llama, tmp_path):
    seen = []
    spec = spec_for(tmp_path, text_pairs(9), llama, loss="rrpo", settings={"beta": 0.5, "alpha": 0.1})
    fitted = fit(spec, lambda *args: seen.append(args[:3]))
    log = curve(tmp_path / "out")
    assert log[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert fitted.steps == 6 == len(log) and fitted.rows == 9 and fitted.dropped == {}
    for line in log:
        assert line["loss"] == pytest.approx(line["loss/preference"] + line["loss/kl"], abs=1e-5)
        assert {"grad_norm", "learning_rate", "logps/chosen", "logps/rejected", "kl/chosen", "rewards/margins"} <= set(
            line
        )
    assert {phase for phase, *_ in seen} == {"encode", "reference", "train"}
    assert seen[-1] == ("train", 6, 6)
    checkpoint.verify(tmp_path / "out")
    loaded = load(ModelSettings(path=str(tmp_path / "out"), device="cpu"))
    assert not torch.equal(
        loaded.model.lm_head.weight, load(ModelSettings(path=str(llama), device="cpu")).model.lm_head.weight
    )
    assert not spec.work.exists()


def test_a_fit_that_is_done_is_not_done_again(llama, tmp_path):
    spec = spec_for(tmp_path, text_pairs(4), llama, loss="dpo")
    first = fit(spec)

    def never(*_):
        raise AssertionError("trained again")

    assert fit(spec, never) == first
    with pytest.raises(UserError, match="other settings"):
        fit(spec.model_copy(update={"seed": 5}))
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json"):
        fit(spec)


def test_neither_micro_batch_nor_order_of_work_changes_what_is_learnt(llama, tmp_path):
    demos = [Demo(prompt=Prompt.user("q"), answer="a red ball " * (1 + i % 3), index=i) for i in range(7)]
    for loss, rows in (("span_dpo", text_pairs(7)), ("sft", demos), ("ipo", text_pairs(7))):
        curves = []
        for micro in (1, 3):
            folder = tmp_path / f"{loss}{micro}"
            fit(spec_for(folder, rows, llama, loss=loss, training={"micro_batch": micro}))
            curves.append([line["loss"] for line in curve(folder / "out")])
        assert curves[0] == pytest.approx(curves[1], rel=1e-4)


@pytest.mark.parametrize("model", [{}, LORA], ids=["full", "lora"])
def test_interrupted_equals_uninterrupted(llama, tmp_path, model):
    given = {"loss": "rrpo", "settings": {"alpha": 0.1}, "training": {"save_steps": 2}, "model": model}
    fit(spec_for(tmp_path / "whole", text_pairs(10), llama, **given))
    spec = spec_for(tmp_path / "cut", text_pairs(10), llama, **given)
    for step in (1, 5):
        with pytest.raises(Killed):
            fit(spec, killed_at(step))
    assert checkpoint.newest(spec.work / "checkpoints")[0].name == "step-4"
    fit(spec)
    assert curve(tmp_path / "cut" / "out") == curve(tmp_path / "whole" / "out")
    whole = weights(tmp_path / "whole" / "out")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(tmp_path / "cut" / "out").items())


def test_second_round_of_lora_interrupted_equals_uninterrupted(qwen, photos, tmp_path):
    fit(spec_for(tmp_path / "one", photo_pairs(photos), qwen, loss="span_dpo", model=LORA))
    given = {"loss": "rrpo", "settings": {"alpha": 0.1}, "training": {"save_steps": 1}, "model": LORA}
    start = tmp_path / "one" / "out"
    fit(spec_for(tmp_path / "whole", photo_pairs(photos), start, **given, schedule={"epochs": 4}))
    spec = spec_for(tmp_path / "cut", photo_pairs(photos), start, **given, schedule={"epochs": 4})
    with pytest.raises(Killed):
        fit(spec, killed_at(3))
    fit(spec)
    assert curve(tmp_path / "cut" / "out") == curve(tmp_path / "whole" / "out")
    assert curve(tmp_path / "cut" / "out")[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    version = json.loads((tmp_path / "cut" / "out" / "version.json").read_text())
    assert version["base"] == str(qwen)
    assert not (tmp_path / "cut" / "out" / "reference").exists()


def test_a_damaged_checkpoint_is_passed_over_and_said(llama, tmp_path):
    spec = spec_for(tmp_path, text_pairs(10), llama, loss="dpo", training={"save_steps": 1})
    with pytest.raises(Killed):
        fit(spec, killed_at(4))
    found = sorted(path.name for path in (spec.work / "checkpoints").iterdir())
    assert found == ["step-2", "step-3"]
    with (spec.work / "checkpoints" / "step-3" / "optimizer.pt").open("r+b") as file:
        file.truncate(100)
    fitted = fit(spec)
    assert any("step-3" in note for note in fitted.notes)
    assert [line["step"] for line in curve(tmp_path / "out")] == list(range(1, 7))


@pytest.mark.slow
def test_kill_9_of_a_real_process(llama, tmp_path):
    given = {"loss": "span_dpo", "training": {"save_steps": 20}, "schedule": {"epochs": 20, "batch_size": 2}}
    fit(spec_for(tmp_path / "whole", text_pairs(6), llama, **given))
    spec = spec_for(tmp_path / "cut", text_pairs(6), llama, **given)
    spec.work.mkdir()
    path = spec.work / "spec.json"
    path.write_text(spec.model_dump_json())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "vlm_selfalign.train.fit", str(path)], env=environment)
    log = spec.work / "log.jsonl"
    while process.poll() is None and len(growing_lines(log)) < 27:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process ended before it could be killed"
    fit(spec)
    mine, whole = curve(tmp_path / "cut" / "out"), curve(tmp_path / "whole" / "out")
    assert [line["step"] for line in mine] == list(range(1, 61))
    assert [line["loss"] for line in mine] == pytest.approx([line["loss"] for line in whole], abs=1e-6)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(llama, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {"loss": "rrpo", "settings": {"alpha": 0.1}}
    fit(spec_for(tmp_path / "one", text_pairs(8), llama, **given))
    fitted = fit(spec_for(tmp_path / "two", text_pairs(8), llama, **given, training={"processes": 2}))
    one, two = curve(tmp_path / "one" / "out"), curve(tmp_path / "two" / "out")
    for key in ("loss", "grad_norm", "kl/chosen", "rewards/margins", "logps/chosen"):
        assert [line[key] for line in two] == pytest.approx([line[key] for line in one], rel=1e-4, abs=1e-5), key
    assert fitted.steps == 4


def test_processes_must_divide_the_batch(llama, tmp_path):
    with pytest.raises(UserError, match="batch_size=3 cannot be split"):
        trl.arguments(
            TrlLoss(("sigmoid",), (1.0,)),
            Schedule(batch_size=3),
            TrainingSettings(processes=2),
            9,
            tmp_path,
            0,
            True,
        )


def test_nan_stops_names_the_rows_and_spares_the_checkpoint(llama, tmp_path, monkeypatch):
    spec = spec_for(tmp_path, text_pairs(8), llama, loss="span_dpo", training={"save_steps": 1})
    real = trl.score_tokens

    def broken(model, inputs, answer, **kw):
        found = real(model, inputs, answer, **kw)
        if broken.calls == 5:
            found.logp_NT[0] = float("nan")
        broken.calls += 1
        return found

    broken.calls = 0
    monkeypatch.setattr(trl, "score_tokens", broken)
    with pytest.raises(NotFinite, match=r"loss is nan at step 2, rows /0//\d+"):
        fit(spec)
    monkeypatch.undo()
    good, passed = checkpoint.newest(spec.work / "checkpoints")
    assert good.name == "step-2" and not passed
    assert not (tmp_path / "out").exists()
    assert fit(spec).steps == 4


def test_a_gradient_that_is_not_finite_stops(llama, tmp_path, monkeypatch):
    spec = spec_for(tmp_path, text_pairs(4), llama, loss="span_dpo")
    monkeypatch.setattr(trl.torch.nn.utils, "get_total_norm", lambda _: torch.tensor(float("inf")))
    with pytest.raises(NotFinite, match="gradient is inf at step 0"):
        fit(spec)


@pytest.mark.parametrize("settings", [{"beta": 0.0}, {}])
def test_nothing_to_learn_is_an_error(llama, tmp_path, settings):
    rows = text_pairs(4) if settings else [row.model_copy(update={"label_prob": 0.5}) for row in text_pairs(4)]
    with pytest.raises(UserError, match="gradient of the first step is zero"):
        fit(spec_for(tmp_path, rows, llama, loss="soft_dpo", settings=settings))


def test_a_reference_that_is_not_the_start_is_noticed(llama, tmp_path, monkeypatch):
    real = policy._load_reference

    def other(found, *rest):
        real(found, *rest)
        with torch.no_grad():
            for p in found.frozen.parameters():
                p.add_(0.1)

    monkeypatch.setattr(policy, "_load_reference", other)
    with pytest.raises(WrongStart, match="two equal models give 0\\.693147"):
        fit(spec_for(tmp_path, text_pairs(4), llama, loss="dpo"))


@pytest.mark.parametrize("loss", ["dpo", "rrpo", "sft"])
def test_pictures_full_and_lora(qwen, photos, tmp_path, loss):
    rows = photo_pairs(photos)
    if loss == "sft":
        rows = [Demo(prompt=row.prompt, answer=row.chosen, index=row.index) for row in rows]
    for name, model in (("full", {}), ("lora", LORA)):
        spec = spec_for(
            tmp_path / name, rows, qwen, loss=loss, model=model, schedule={"epochs": 10, "learning_rate": 1e-2}
        )
        fit(spec)
        log = curve(tmp_path / name / "out")
        assert log[-1]["loss"] < (0.8 if model else 0.6) * log[0]["loss"], name
        loaded = load(ModelSettings(path=str(tmp_path / name / "out"), device="cpu"))
        assert (loaded.base is not None) == bool(model)


def test_gradient_checkpointing_changes_nothing(qwen, photos, tmp_path):
    curves = []
    for on in (False, True):
        folder = tmp_path / str(on)
        training = {"gradient_checkpointing": on, "micro_batch": 4}
        fit(spec_for(folder, photo_pairs(photos), qwen, loss="rrpo", model=LORA, training=training))
        curves.append([line["loss"] for line in curve(folder / "out")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_bf16_starts_at_ln_2_and_learns(qwen, photos, tmp_path):
    training = {"bf16": True, "micro_batch": 4}
    spec = spec_for(tmp_path, photo_pairs(photos), qwen, loss="rrpo", model=LORA, training=training)
    fit(spec.model_copy(update={"schedule": spec.schedule.model_copy(update={"epochs": 10, "learning_rate": 1e-2})}))
    log = curve(tmp_path / "out")
    assert log[0]["loss"] == pytest.approx(0.693147, abs=0.02) and log[-1]["loss"] < 0.8 * log[0]["loss"]


def test_rows_that_cannot_be_read(llama, tmp_path):
    spec = spec_for(tmp_path, text_pairs(2), llama, loss="dpo")
    (tmp_path / "rows.jsonl").write_text('{"kind": "pair"}\n')
    with pytest.raises(UserError, match="line 1: not a row"):
        fit(spec)
    with pytest.raises(UserError, match="No such file"):
        fit(spec.model_copy(update={"rows": str(tmp_path / "gone.jsonl")}))
    with pytest.raises(UserError, match="no loss called 'dppo'"):
        fit(spec.model_copy(update={"loss": "dppo", "rows": written(text_pairs(2), tmp_path / "r.jsonl")}))


def test_what_was_dropped_and_ignored_is_reported(llama, tmp_path):
    rows = [*text_pairs(4), text_pairs(1)[0].model_copy(update={"rejected": text_pairs(1)[0].chosen, "index": 9})]
    rows[0] = rows[0].model_copy(update={"weight": 3.0})
    fitted = fit(spec_for(tmp_path, rows, llama, loss="dpo"))
    assert fitted.dropped == {"chosen and rejected are equal after tokenisation": 1}
    assert fitted.notes == ("1 rows set weight, which this loss does not read",)


def test_rows_may_hold_any_character(tmp_path):
    row = Demo(prompt=Prompt.user("What?"), answer="one\u2028two\x85three\x0bfour\rfive\nsix")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(f"{row.model_dump_json()}\n{row.model_dump_json()}\n".encode())
    assert [one.answer for one in read_rows(str(path))] == [row.answer] * 2
