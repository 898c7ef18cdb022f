"""Rows to a new version of a role: ``fit(spec)``; under accelerate, ``python -m vlm_selfalign.train.fit spec.json``.

::

    spec = FitSpec(loss="span_dpo", settings={"beta": 1}, start="embedded", rows="pairs.jsonl", out="runs/x/policy")
    fitted = fit(spec)          # fitted.path is a folder that loads like any model

Kill it at any moment: the same call goes on from the newest checkpoint whose manifest verifies.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, GradientState
from pydantic import Field
from transformers import set_seed

from vlm_selfalign.config import ModelSettings, Schedule, Settings, TrainingSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.rows import ROW, BaseRow
from vlm_selfalign.core.seeds import digest, digest_file
from vlm_selfalign.models.answer_adapters import acts_on_answers
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.load import pick_device
from vlm_selfalign.train import checkpoint
from vlm_selfalign.train.alarms import is_mismatch, mismatched
from vlm_selfalign.train.answers import AnswerEngine, quarrel
from vlm_selfalign.train.arguments import arguments
from vlm_selfalign.train.batch import Collator, Dropped, ignored_columns, prepare, uneven_prompts
from vlm_selfalign.train.callbacks import Log, Progress, Seal
from vlm_selfalign.train.dpo_family import TrlLoss
from vlm_selfalign.train.engine.checks import settle
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.reference import ReferenceStore
from vlm_selfalign.train.policy import VERSION, Learner, learner
from vlm_selfalign.train.portions import Budget, within
from vlm_selfalign.train.remember import remember_reference
from vlm_selfalign.train.scores import Loss
from vlm_selfalign.train.texts import Texts
from vlm_selfalign.train.trl import FitTrainer

logger = logging.getLogger(__name__)

DROPPED = "dropped.jsonl"
"""Beside the log: every row that could not be learnt from, and why."""
POLL_S = 0.5
"""Seconds between looks at the log of a fit in other processes."""


class FitSpec(Settings):
    """Everything that decides a fit, as JSON."""

    loss: str
    settings: dict[str, Any] = Field(default_factory=dict)
    """The loss's own settings."""
    schedule: Schedule = Schedule()
    training: TrainingSettings = TrainingSettings()
    model: ModelSettings = ModelSettings()
    """How to load; ``path`` is not read, ``start`` is."""
    start: str
    reference: str | None = None
    """None means ``start``."""
    rows: str
    """A JSONL file of rows."""
    out: str
    seed: int = 0

    @property
    def work(self) -> Path:
        """Checkpoints and the growing log, beside ``out`` until that is published."""
        out = Path(self.out)
        return out.with_name(out.name + ".work")

    def key(self) -> str:
        """What decides the outcome: all but where it is written and how the work is split."""
        model = self.model.model_dump(exclude={"path", "device", "threads", "batch_size"})
        chosen = (self.loss, self.settings, self.schedule.model_dump(), model, self.training.bf16, self.seed)
        if self.training.max_tokens:  # which rows are over it, and whether what they share counts once
            chosen += (self.training.max_tokens, self.training.engine)
        try:
            rows = digest_file(self.rows)
        except OSError as error:
            raise UserError(f"{self.rows}: {error.strerror}") from None
        return digest(json.dumps(chosen, sort_keys=True), self.start, self.reference or self.start, rows)


class Fitted(Settings):
    """What a fit left behind."""

    path: str
    steps: int
    rows: int
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()
    """What rows say and this loss does not read; checkpoints passed over."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """The last line of the log."""


def fit(spec: FitSpec, progress: Progress | None = None) -> Fitted:
    """Train, publish the version at ``spec.out`` and say what happened; a fit that is done is not done again.

    ``progress`` is called per optimizer step in this process; with ``training.processes`` > 1 the work happens under
    ``accelerate launch`` and it is called with the log's last line when that ends.

    Raises ``UserError`` (wrong rows, nothing to learn, NaN, ``out`` taken by another fit) and ``WrongStart``.
    """
    key = spec.key()
    done = _finished(spec, key)
    if done:
        return done
    if spec.training.processes > 1:
        return _launched(spec, key, progress)
    return _run(spec, key, progress)


def read_rows(path: str) -> list[BaseRow]:
    """Rows of a JSONL file. Raises ``UserError`` with the line's number."""
    rows = []
    # Not splitlines(): it also breaks at characters that may stand in a JSON text as they are (U+0085, U+2028).
    lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines[: -1 if not lines[-1] else None], 1):
        try:
            rows.append(ROW.validate_json(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not a row ({str(error).splitlines()[0]})") from None
    return rows


def _finished(spec: FitSpec, key: str) -> Fitted | None:
    out = Path(spec.out)
    if not out.exists():
        return None
    try:
        manifest = checkpoint.verify(out)
    except checkpoint.Damaged as error:
        raise UserError(f"{error}; move {out} away to train it again") from None
    if manifest["spec"] != key:
        raise UserError(f"{out}: holds a version trained with other settings; choose another folder")
    return Fitted.model_validate(json.loads((out / VERSION).read_text())["fit"]).model_copy(update={"path": str(out)})


def _run(spec: FitSpec, key: str, progress: Progress | None) -> Fitted:
    _fresh_process_state()
    learns, collator, dropped = _prepared(spec, progress)
    collator, engine, said = _engine(spec, learns, collator)
    budget = _budget(spec.training, collator.maker, engine)
    collator = dataclasses.replace(collator, items=within(budget, collator.items, dropped))
    loss, items = collator.loss, collator.items
    trainer = _trainer(spec, learns, collator, engine, budget)
    checkpoints = spec.work / "checkpoints"
    resume, passed = checkpoint.newest(checkpoints, key)
    ignored = ignored_columns(items, loss, reads_spans=not isinstance(loss, TrlLoss))
    notes = [*ignored, *uneven_prompts(items), *passed, *said]
    if spec.model.lora and spec.model.lora.dropout:
        notes.append("model.lora.dropout is off: policy and reference must differ by what was learnt alone")
    if "reference" in loss.roles:
        identity = digest(key, learns.loaded.identity, learns.compared)
        store = ReferenceStore(spec.work / "reference", identity, trainer.accelerator.process_index)
        remember_reference(trainer, budget.rows, progress, store)
        if not loss.kl_texts or engine is not None:
            learns.forget_reference()
    if trainer.is_world_process_zero():
        for note in (*notes, *dropped.told()):
            logger.warning(note)
        spec.work.mkdir(parents=True, exist_ok=True)
        (spec.work / DROPPED).write_text("".join(json.dumps({"row": r, "reason": w}) + "\n" for r, w in dropped.rows))
        trainer.add_callback(Log(spec.work / "log.jsonl", int(resume.name[5:]) if resume else 0, progress))
    trainer.add_callback(Seal(checkpoints, key, trainer.accelerator.wait_for_everyone))
    result = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    fitted = Fitted(
        path=spec.out, steps=result.global_step, rows=len(items), dropped=dict(dropped.counts), notes=tuple(notes)
    )
    return _publish(spec, key, trainer, fitted)


def _prepared(spec: FitSpec, progress: Progress | None) -> tuple[Learner, Collator, Dropped]:
    loss: Loss = resolve("loss", spec.loss).build(spec.settings, spec.loss)
    rows = read_rows(spec.rows)
    set_seed(spec.seed)  # a new adapter draws its weights
    start, model = spec.start, _on_this_process(spec.model)
    needs_reference = "reference" in loss.roles
    learns = learner(start, spec.reference or start, model, spec.schedule.freeze, needs_reference)
    own_limit = getattr(learns.model.config.get_text_config(), "max_position_embeddings", None)
    places = acts_on_answers(learns.model)
    maker = Texts(Encoder.of(learns.loaded), opening=places.opening if places else ())
    items, dropped = prepare(rows, loss, maker, spec.schedule.max_length or own_limit, progress)
    return learns, Collator(items, loss, maker), dropped


def _engine(spec: FitSpec, learns: Learner, collator: Collator) -> tuple[Collator, Engine | None, list[str]]:
    """The fast forward if it may be used and agrees with the plain one, and what there is to say if not."""
    if spec.training.engine == "plain":
        return collator, None, []
    kinds = {any(text.prompt.media for text in item.texts.values()): item for item in reversed(collator.items)}
    groups = [list(item.texts.values()) for item in kinds.values()]
    maker, features, bf16 = collator.maker, spec.work / "features", spec.training.bf16
    reason, engine = (quarrel(collator.items, maker.opening), AnswerEngine) if maker.opening else (None, Engine)
    try:
        found = reason or settle(learns.model, maker, groups, collator.plain, features, bf16, engine)
    except (ValueError, RuntimeError) as error:
        raise mismatched(error, [item.row.id for item in kinds.values()]) if is_mismatch(error) else error from None
    if isinstance(found, str):
        return collator, None, [f"every text goes through the model by itself: {found}"]
    return dataclasses.replace(collator, planner=found[1]), found[0], []


def _budget(training: TrainingSettings, maker: Texts, engine: Engine | None) -> Budget:
    return Budget(training.micro_batch, training.max_tokens, engine is not None, tuple(maker.encoder.placeholders))


def _trainer(spec: FitSpec, learns: Learner, collator: Collator, engine: Engine | None, budget: Budget) -> FitTrainer:
    on_cpu = pick_device(spec.model.device).type == "cpu"
    args = arguments(
        collator.loss, spec.schedule, spec.training, len(collator.items), spec.work / "trainer", spec.seed, on_cpu
    )
    return FitTrainer(learns, collator, args, engine, budget, spec.schedule.group)


def _publish(spec: FitSpec, key: str, trainer: FitTrainer, fitted: Fitted) -> Fitted:
    weights = trainer.whole_weights()
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        log = growing_lines(spec.work / "log.jsonl")
        fitted = fitted.model_copy(update={"metrics": log[-1] if log else {}})

        def write(folder: Path) -> None:
            trainer.learner.save(folder, weights)
            for name in ("log.jsonl", DROPPED):
                shutil.copy(spec.work / name, folder / name)
            base = {"base": trainer.learner.base} if trainer.learner.base else {}
            (folder / VERSION).write_text(json.dumps({**base, "fit": fitted.model_dump(mode="json")}, indent=1))

        checkpoint.publish(write, Path(spec.out), fitted.steps, key)
        shutil.rmtree(spec.work)
    trainer.accelerator.wait_for_everyone()
    return fitted


def _launched(spec: FitSpec, key: str, progress: Progress | None) -> Fitted:
    spec.work.mkdir(parents=True, exist_ok=True)
    path = spec.work / "spec.json"
    path.write_text(spec.model_dump_json(indent=1))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(spec.training.processes)]
    command += ["--main_process_port", "0"]  # any free one: two fits may share a machine
    if spec.training.accelerate_config:
        command += ["--config_file", spec.training.accelerate_config]
    else:
        command += ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = dict(os.environ)
    if pick_device(spec.model.device).type == "cpu":
        # With --cpu accelerate starts one process whatever it is told (it counts on mpirun); so it starts them as if
        # for GPUs and is told here that there are none.
        environment["ACCELERATE_USE_CPU"] = "true"
    command += ["--module", "vlm_selfalign.train.fit", str(path)]
    with subprocess.Popen(command, env=environment) as running:
        while running.poll() is None:
            time.sleep(POLL_S)
            _pass_on(spec, progress)
    done = _finished(spec, key)
    if done is None:
        raise UserError(f"training under accelerate launch ended with exit code {running.returncode}; see its messages")
    if progress:
        progress("train", done.steps, done.steps, done.metrics)
    return done


def _pass_on(spec: FitSpec, progress: Progress | None) -> None:
    log = growing_lines(spec.work / "log.jsonl") if progress else []
    if progress and log:
        steps = round(log[-1]["step"] / log[-1]["epoch"] * spec.schedule.epochs)
        progress("train", int(log[-1]["step"]), steps, log[-1])


def _on_this_process(model: ModelSettings) -> ModelSettings:
    local = os.environ.get("LOCAL_RANK")
    if local is not None and pick_device(model.device).type == "cuda":
        return model.model_copy(update={"device": f"cuda:{local}"})
    return model


def _fresh_process_state() -> None:
    # accelerate keeps precision and device for the life of a process and refuses a second fit that wants others
    if "LOCAL_RANK" not in os.environ and not torch.distributed.is_initialized():
        AcceleratorState._reset_state(True)
        GradientState._reset_state()
    PartialState()


def _refuse_empty_weights() -> None:
    # Accelerate's own default: all but the first process would check the engine and ask the reference without weights
    told = (os.environ.get(name, "") == "true" for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"))
    if all(told):
        raise UserError("training.accelerate_config: set fsdp_cpu_ram_efficient_loading: false in its fsdp_config")


def main() -> None:
    """``python -m vlm_selfalign.train.fit spec.json``: this process's part of a fit; it never starts others."""
    try:
        spec = FitSpec.model_validate_json(Path(sys.argv[1]).read_text())
        _refuse_empty_weights()
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started != spec.training.processes:
            raise UserError(f"training.processes={spec.training.processes}, but accelerate launch started {started}")
        fitted = _run(spec, spec.key(), None)
    except UserError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(fitted.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
