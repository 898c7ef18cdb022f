"""Look before a run: what seconds can show must not cost hours."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from vlm_selfalign.config import ModelSettings, RunSettings, Schedule
from vlm_selfalign.core.driver import Decoder
from vlm_selfalign.core.errors import TryAgain, UserError, nearest
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import explain, resolve
from vlm_selfalign.core.requests import Service
from vlm_selfalign.core.stages import Stage, parse_stages
from vlm_selfalign.recipe import vocabulary_of
from vlm_selfalign.samples import left_out, test_samples, training_samples
from vlm_selfalign.scoring.vocabulary import Vocabulary

GIB = 1 << 30
FEW = 30


def check(
    settings: RunSettings,
    *,
    services: Mapping[str, Service | Decoder] | None = None,
    show: Callable[[str], None] = print,
) -> None:
    """Stages fit together, data opens, the processor takes it, LoRA targets exist, memory and disk suffice.

    Prints what it found, a line each. Raises ``UserError`` for the first thing that would stop the run later.
    """
    stages = parse_stages(settings.stages)
    fits = [stage for stage in stages if stage.kind == "fit"]
    for name, probe_settings in settings.measure.probes.items():
        resolve("probe", name, "measure.probes").build(probe_settings, f"measure.probes.{name}")
    Vocabulary.load(vocabulary_of(settings))
    _check_roles(settings, stages, show)
    sample = _check_data(settings, show)
    _check_disk(settings, show)
    models = {"policy": settings.model, **settings.roles}
    for role, model in models.items():
        if role not in (services or {}) or any(stage.role == role for stage in fits):
            _check_model(role, model, sample, fits, show)
    for stage in fits:
        _check_fit(stage, settings)


def _check_roles(settings: RunSettings, stages: list[Stage], show: Callable[[str], None]) -> None:
    """A role is played when something names it; one that nothing names is loaded for nothing, or misspelt."""
    named = {stage.role for stage in stages} | {
        str(value) for stage in stages if stage.plugin for value in stage.plugin.filled(stage.at(0)).values()
    }
    for role in settings.roles:
        if role not in named:
            show(f"note: roles.{role}: no stage's settings name this role{nearest(role, named - {'', 'policy'})}")


def _check_fit(stage: Stage, settings: RunSettings) -> None:
    if stage.role not in {"policy", *settings.roles}:
        raise UserError(
            f"stages.{stage.name}: trains the role '{stage.role}', which has no model; add roles.{stage.role}"
        )
    for round_number in range(settings.rounds):
        given = stage.at(round_number)
        loss = resolve("loss", str(given.pop("loss")), f"stages.{stage.name}.fit")
        own = {name: value for name, value in given.items() if name not in Schedule.model_fields}
        unknown = [name for name in own if name not in loss.parameters]
        if unknown:
            known = [*loss.parameters, *Schedule.model_fields]
            raise UserError(f"stages.{stage.name}.{unknown[0]}: unknown key{nearest(unknown[0], known)}")
        loss.build(own, f"stages.{stage.name}")
        _schedule({k: v for k, v in given.items() if k not in own}, stage)


def _schedule(given: dict[str, Any], stage: Stage) -> None:
    try:
        Schedule.model_validate(given)
    except ValidationError as error:
        raise UserError(explain(error, f"stages.{stage.name}", Schedule)) from None


def _check_data(settings: RunSettings, show: Callable[[str], None]) -> Sample:
    samples = training_samples(settings)
    first = next(iter(samples), None)
    if first is None:
        raise UserError("data: no samples to learn from; check data.path and data.limit")
    held = len(test_samples(settings)) if settings.measure.probes else 0
    show(f"data: {len(samples)} samples to learn from, {held} held out")
    for reason, count in left_out(samples).most_common():
        show(f"data: {count} left out: {reason}")
    if settings.measure.probes and held < FEW:
        show(f"note: intervals from under {FEW} held-out samples are too narrow; raise measure.holdout or add samples")
    return first


def _check_model(
    role: str, settings: ModelSettings, sample: Sample, fits: list[Stage], show: Callable[[str], None]
) -> None:
    from vlm_selfalign.models.encode import Encoder
    from vlm_selfalign.models.load import quiet
    from vlm_selfalign.models.skeleton import free_memory, needs, skeleton

    quiet()
    loaded = skeleton(settings)
    batch = Encoder.of(loaded).batch([sample.prompt])
    freeze = next((tuple(s.at(0).get("freeze", Schedule().freeze)) for s in fits if s.role == role), ())
    found = needs(loaded, settings, freeze)
    tokens = batch.inputs["input_ids"].shape[1]
    learns = f", {_count(found.trainable)} learn" if any(stage.role == role for stage in fits) else ""
    show(
        f"{role}: {_count(found.parameters)} parameters{learns}; the first prompt is {tokens} tokens; "
        f"{_gib(found.to_answer)} to answer, {_gib(found.to_train)} to train, activations not counted"
    )
    free = free_memory()
    if free and found.to_answer > free:
        raise UserError(
            f"{role}: needs {_gib(found.to_answer)}, {_gib(free)} are free; set model.quantize=4bit or dtype"
        )


def _check_disk(settings: RunSettings, show: Callable[[str], None]) -> None:
    folder = settings.folder.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    show(f"disk: {_gib(free)} free for {settings.folder}")
    if free < 64 << 20:
        raise TryAgain(f"{folder}: less than 64 MiB free; make room, or choose another place with out=...")


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 100_000 else f"{number:,}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"
