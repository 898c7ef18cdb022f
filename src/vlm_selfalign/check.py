"""Look before a run: what seconds can show must not cost hours."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vlm_selfalign.config import ModelSettings, RunSettings, Schedule, TrainingSettings
from vlm_selfalign.core.driver import Decoder
from vlm_selfalign.core.errors import TryAgain, UserError, nearest
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import explain, resolve
from vlm_selfalign.core.requests import Service
from vlm_selfalign.core.stages import Stage, parse_stages
from vlm_selfalign.recipe import vocabulary_of
from vlm_selfalign.roles import CLIP, is_clip
from vlm_selfalign.samples import left_out, test_samples, training_samples
from vlm_selfalign.scoring.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vlm_selfalign.models.estimate import Looked
    from vlm_selfalign.models.skeleton import Needs

GIB = 1 << 30
FEW = 30

LOOKED = 5
"""Samples that are read in full, spread over the first ``SPREAD``."""
SPREAD = 60
ANSWER = 256
"""Tokens of an answer when memory is estimated."""


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
    samples, total = _check_data(settings, show)
    _check_disk(settings, show)
    models = {"policy": settings.model, **settings.roles}
    for role, model in models.items():
        if is_clip(model):
            _check_clip(role, model, fits, show)
        elif role not in (services or {}) or any(stage.role == role for stage in fits):
            ModelCheck(role, model, [stage for stage in fits if stage.role == role], settings, show).run(samples, total)
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


def _check_clip(role: str, model: ModelSettings, fits: Sequence[Stage], show: Callable[[str], None]) -> None:
    """A CLIP model that is not there fails its requests, not the run; so it is said here."""
    from vlm_selfalign.models.clip_service import why_missing

    if role == "policy" or any(stage.role == role for stage in fits):
        raise UserError(f"{role}: a CLIP model writes no answers and is not trained; choose a vision-language model")
    show(f"{role}: " + (why_missing(model.path.removeprefix(CLIP)) or "a CLIP model"))


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


def _check_data(settings: RunSettings, show: Callable[[str], None]) -> tuple[list[Sample], int]:
    """Some samples from the beginning, and how many there are in all."""
    samples = training_samples(settings)
    first = list(islice(samples, SPREAD))
    if not first:
        raise UserError("data: no samples to learn from; check data.path and data.limit")
    held = len(test_samples(settings)) if settings.measure.probes else 0
    show(f"data: {len(samples)} samples to learn from, {held} held out")
    for reason, count in left_out(samples).most_common():
        show(f"data: {count} left out: {reason}")
    if settings.measure.probes and held < FEW:
        show(f"note: intervals from under {FEW} held-out samples are too narrow; raise measure.holdout or add samples")
    return first[:: max(1, len(first) // LOOKED)][:LOOKED], len(samples)


class ModelCheck:
    """Whether one role's model takes the samples and fits the machine: a line for each thing found."""

    def __init__(
        self,
        role: str,
        model: ModelSettings,
        fits: Sequence[Stage],
        settings: RunSettings,
        show: Callable[[str], None],
    ) -> None:
        self.role, self.model, self.fits, self.settings, self.show = role, model, fits, settings, show
        self.total = 0
        self.where = "model" if role == "policy" else f"roles.{role}"

    def run(self, samples: Sequence[Sample], total: int) -> None:
        """Look at some of ``total`` samples. Raises ``UserError`` for what cannot work, with what to set."""
        from vlm_selfalign.models.encode import Encoder
        from vlm_selfalign.models.estimate import look_at
        from vlm_selfalign.models.load import quiet
        from vlm_selfalign.models.skeleton import needs, skeleton

        quiet()
        self.total = total
        loaded = skeleton(self.model)
        looked = look_at(Encoder.of(loaded), (sample.prompt for sample in samples))
        freeze = next((tuple(stage.at(0).get("freeze", Schedule().freeze)) for stage in self.fits), ())
        found = needs(loaded, self.model, freeze)
        self._weights(found)
        self._tokens(looked, loaded.model.config.get_text_config())
        self._memory(loaded.model.config, max(looked.tokens), found)
        self._clips(samples, looked)

    def _weights(self, found: Needs) -> None:
        learns = f", {_count(found.trainable)} learn" if self.fits else ""
        self.show(
            f"{self.role}: {_count(found.parameters)} parameters{learns}; {_gib(found.to_answer)} to answer, "
            f"{_gib(found.to_train)} to train, activations not counted"
        )

    def _tokens(self, looked: Looked, config: Any) -> None:
        for reason, count in looked.failed.most_common():
            self.show(f"{self.role}: {count} of the samples looked at cannot be shown: {reason}")
        if not looked.tokens:
            reason = next(iter(looked.failed))
            raise UserError(
                f"{self.role}: none of {looked.failed.total()} samples can be shown: {reason}{self._help(reason)}"
            )
        longest = max(range(len(looked.tokens)), key=looked.tokens.__getitem__)
        self.show(
            f"{self.role}: the first prompt is {looked.tokens[0]} tokens, {looked.visual[0]} of them visual; "
            f"the longest of {len(looked.tokens)} is {looked.tokens[longest]}, {looked.visual[longest]} visual"
        )
        context = getattr(config, "max_position_embeddings", None)
        if context and min(looked.tokens) >= context:
            raise UserError(
                f"{self.role}: every prompt looked at fills the model's {context} tokens; lower "
                f"{self.where}.media.frames or max_pixels, or set max_visual_tokens and shrink"
            )
        limits = {f"stages.{stage.name}.max_length": stage.at(0).get("max_length") or context for stage in self.fits}
        for name, limit in limits.items():
            over = sum(tokens >= limit for tokens in looked.tokens) if limit else 0
            if over:
                self.show(
                    f"note: {name}={limit} drops every row about {over} of {len(looked.tokens)} samples, whose prompts "
                    f"alone are as long; raise it, or lower {self.where}.media.frames or max_pixels"
                )

    def _help(self, reason: str) -> str:
        return f"; lower {self.where}.media.frames or max_pixels, or set shrink" if "shows too much" in reason else ""

    def _memory(self, config: Any, tokens: int, found: Needs) -> None:
        from vlm_selfalign.models.estimate import to_answer
        from vlm_selfalign.models.skeleton import BYTES, free_memory

        free, rows, each = free_memory(), self.model.batch_size, BYTES[self.model.dtype]
        alone, all_at_once = (to_answer(config, tokens + ANSWER, many, each) for many in (1, rows))
        told = (
            f"about {_gib(all_at_once)} more for {rows} of the longest prompts at once, with answers of {ANSWER} tokens"
        )
        self.show(f"{self.role}: {told}")
        if not free:
            return
        if found.to_answer > free:
            told = f"{self.role}: needs {_gib(found.to_answer)}, {_gib(free)} are free"
            raise UserError(f"{told}; set {self.where}.quantize=4bit or dtype")
        if found.to_answer + alone > free:
            raise UserError(
                f"{self.role}: one prompt of {tokens} tokens needs about {_gib(found.to_answer + alone)}, {_gib(free)} "
                f"are free; lower {self.where}.media.frames or max_pixels, or set max_visual_tokens"
            )
        if found.to_answer + all_at_once > free:
            self.show(
                f"note: {_gib(free)} are free: batches will be halved until they fit; lower {self.where}.batch_size"
            )
        if self.fits:
            self._training(config, tokens, found, free, self.settings.training)

    def _training(self, config: Any, tokens: int, found: Needs, free: int, training: TrainingSettings) -> None:
        from vlm_selfalign.models.estimate import to_learn
        from vlm_selfalign.train.estimate import rows_at_once, tokens_of_row

        each = 2 if training.bf16 else 4
        given = self.fits[0].at(0)
        schedule = Schedule.model_validate({name: given[name] for name in given if name in Schedule.model_fields})
        row = tokens_of_row(tokens, ANSWER, shared=training.engine == "auto")
        rows = rows_at_once(training, schedule, row)
        if not rows:
            self.show(f"note: training.max_tokens={training.max_tokens} drops rows of the longest prompt: {row} tokens")
        kept = to_learn(config, row, max(1, rows), each, training.gradient_checkpointing)
        alone = tokens_of_row(tokens, ANSWER, shared=False)
        apart = to_learn(config, alone, max(1, rows), each, training.gradient_checkpointing)
        beside = f"; {_gib(apart)} if each text has to go by itself" if training.engine == "auto" else ""
        self.show(f"{self.role}: about {_gib(kept)} of activations to train on {rows} such rows at once{beside}")
        if found.to_train + kept > free and not training.accelerate_config:
            self.show(
                f"note: {_gib(free)} are free: training may run out of memory; set training.max_tokens, "
                f"training.gradient_checkpointing or {self.where}.media.max_visual_tokens"
            )

    def _clips(self, samples: Sequence[Sample], looked: Looked) -> None:
        from vlm_selfalign.media.errors import MediaError
        from vlm_selfalign.models.estimate import time_clip

        clips = [media for sample in samples for media in sample.prompt.media if media.kind == "video"]
        if not clips:
            return
        try:
            clock = time_clip(clips[0], self.model.media)
        except MediaError:
            return  # counted above
        size, room, block = looked.shown_bytes, self.model.media.cache_mb << 20, min(self.settings.block, self.total)
        self.show(f"{self.role}: the first clip takes {clock.seconds:.2f} s to decode to {clock.frames} frames")
        if size * block > room:
            self.show(
                f"note: decoded, a sample takes up to {_gib(size)}; of {block} worked on at once the cache holds "
                f"{room // size}, so each question decodes its clip anew; raise {self.where}.media.cache_mb or lower "
                "block"
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
