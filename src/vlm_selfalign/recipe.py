"""The loop: stages, round after round, then the measurement and the page; killed anywhere, it goes on.

A run directory holds ``run.json``, ``rounds/<n>/<stage>.jsonl`` (or ``.json`` for a value),
``rounds/<n>/<role>/`` (a fitted version), ``drops.jsonl``, ``metrics.json`` and ``report.html``.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vlm_selfalign.config import MeasureSettings, RunSettings, Schedule
from vlm_selfalign.core.driver import Decoder, Driver, Finished, batched
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.keyindex import KeyIndex
from vlm_selfalign.core.ledger import Ledger, RowsFile, open_run, write_atomic, write_rows
from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.requests import Service
from vlm_selfalign.core.rows import Origin, Row
from vlm_selfalign.core.seeds import digest, digest_file
from vlm_selfalign.core.stages import Shaped, Stage, parse_stages
from vlm_selfalign.roles import Roles
from vlm_selfalign.samples import left_out, source_name, training_samples
from vlm_selfalign.signals import Stop

log = logging.getLogger(__name__)


MAY_CHANGE = (
    *("out", "about", "training", "model.device", "model.threads", "model.media.cache_mb"),
    *(f"measure.{name}" for name in MeasureSettings.model_fields if name not in {"holdout", "data"}),
)
"""Settings that change no row and no weight (but for rounding), so an old run goes on with new ones."""

KEY_BYTES = 16

WORDS = {"world": "world", "worldtext": "world", "worldclip": "world_clips"}
"""What drawn sources are described with."""

VERSIONS = ("vlm-selfalign", "torch", "transformers", "trl", "peft", "accelerate", "pillow", "numpy")


def versions() -> dict[str, str]:
    """The versions of what decides numbers, kept in ``run.json``."""
    return {name: importlib.metadata.version(name) for name in VERSIONS}


@dataclass(frozen=True)
class Output:
    """What a stage left: rows on disk, or a value."""

    digest: str
    rows: RowsFile | None = None
    value: Any = None

    def seen_by(self, sample: Sample) -> Any:
        """What a method's parameter receives: this sample's rows, or the value."""
        return self.value if self.rows is None else self.rows.of(sample.id)


class Run:
    """One recipe on one run directory; ``services`` may answer in place of loaded models, role by role."""

    def __init__(
        self,
        settings: RunSettings,
        *,
        services: Mapping[str, Service | Decoder] | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.settings = settings
        self.stages = [_with_vocabulary(stage, settings) for stage in parse_stages(settings.stages)]
        self.roles = Roles({"policy": settings.model, **settings.roles}, services)
        self.folder = open_run(settings.folder, settings.model_dump(mode="json"), MAY_CHANGE, versions())
        self.ledger = Ledger(self.folder)
        self.stop = stop or Stop()
        self.driver = Driver(self.roles, self.ledger, block=settings.block, between=self.stop.between)
        self.samples = training_samples(settings)
        self.outputs: dict[tuple[int, str], Output] = {}
        self.made: defaultdict[str, float] = defaultdict(float)
        """Seconds that stages of methods took in all, by what took them; ``rest`` is this package's own work."""

    def execute(self, only_rows: bool = False) -> None:
        """All stages of all rounds; ``only_rows`` stops at the first fit."""
        self._drops(0, "data", left_out(self.samples))
        for round_number in range(self.settings.rounds):
            for stage in self.stages:
                if stage.runs_in(round_number):
                    if only_rows and stage.kind == "fit":
                        return
                    self.run_stage(stage, round_number)

    def run_stage(self, stage: Stage, round_number: int) -> None:
        """One stage of one round, from where it was left."""
        started, before = time.perf_counter(), defaultdict(float, self.driver.seconds)
        run = {"method": self._method, "fold": self._fold, "fit": self._fit}[stage.kind]
        run(stage, round_number)
        spent = time.perf_counter() - started
        self.driver.seconds[f"stage {round_number}/{stage.name}"] += spent
        if stage.kind == "method":
            parts = {name: self.driver.seconds[name] - before[name] for name in self._parts()}
            for name, seconds in {**parts, "rest": spent - sum(parts.values())}.items():
                self.made[name] += seconds

    def output(self, name: str, round_number: int) -> Output:
        """The newest output of a stage up to this round."""
        for number in range(round_number, -1, -1):
            if (number, name) in self.outputs:
                return self.outputs[number, name]
        raise UserError(f"stages: '{name}' made nothing up to round {round_number}; check its in_rounds")

    def close(self) -> None:
        """Let go of the run directory."""
        self.ledger.close()

    def times(self) -> list[str]:
        """Where the time went, longest first."""
        stages = {name: s for name, s in self.driver.seconds.items() if name.startswith("stage ")}
        parts = {name: s for name, s in self.driver.seconds.items() if name in self._parts()}
        told = [
            f"{title}: " + ", ".join(f"{name.removeprefix('stage ')} {s:.1f} s" for name, s in _longest(group))
            for title, group in (("time by stage", stages), ("time by part", parts))
            if group
        ]
        return [*told, *self._overhead()]

    def _parts(self) -> set[str]:
        return {*self.roles, "method", "ledger", "samples", "loading"}

    def _overhead(self) -> list[str]:
        """How much of making rows was neither models (with their processors and decoders) nor the source's work."""
        whole, own = sum(self.made.values()), {name: self.made[name] for name in ("method", "ledger", "rest")}
        if not whole:
            return []
        listed = ", ".join(f"{name} {s:.1f} s" for name, s in _longest(own))
        return [
            f"making rows took {whole:.1f} s, {sum(own.values()) / whole:.1%} of it outside models and data: {listed}"
        ]

    def _timed_samples(self) -> Iterable[Sample]:
        """The samples; what the source needs to find or draw them is counted."""
        samples = iter(self.samples)
        while True:
            started = time.perf_counter()
            sample = next(samples, None)
            self.driver.seconds["samples"] += time.perf_counter() - started
            if sample is None:
                return
            yield sample

    # Methods

    def _method(self, stage: Stage, round_number: int) -> None:
        method = stage.build(round_number)
        earlier = {name: self.output(name, round_number) for name in stage.reads}
        inputs = {name: output.digest for name, output in earlier.items()}
        started = time.perf_counter()
        key = stage.key(round_number, self.settings.seed, self.roles.identities(), inputs)
        self.driver.seconds["loading"] += time.perf_counter() - started
        # The key is in the name: after a change of settings or source, nothing of before is in the way.
        done = self.ledger.finished(f"{round_number}-{stage.name}-{key[:12]}")

        def steps(sample: Sample) -> Any:
            return method(sample, **{name: output.seen_by(sample) for name, output in earlier.items()})

        wanted = bytearray()
        with tqdm(total=len(self.samples), desc=f"round {round_number} {stage.name}", unit="sample") as bar:
            for block in batched(self._timed_samples(), self.settings.block):
                self.driver.told = follow(bar, bar.n)
                keyed = [(digest(key, s.id, s.truth), s) for s in block]
                self._block(stage, round_number, steps, done, keyed)
                wanted += bytes.fromhex("".join(one for one, _ in keyed))
                bar.update(len(wanted) // KEY_BYTES - bar.n)
                self._progress(round_number, stage.name, len(wanted) // KEY_BYTES, len(self.samples))
        self.ledger.seal()
        path = self._path(round_number, f"{stage.name}.jsonl")
        counts: Counter[str] = Counter()
        write_rows(path, _rows_of(done, KeyIndex.of(wanted, range(len(wanted) // KEY_BYTES)), counts))
        self._drops(round_number, stage.name, counts)
        self.outputs[round_number, stage.name] = Output(digest_file(path), RowsFile(path))

    def _block(
        self, stage: Stage, round_number: int, steps: Any, done: Any, block: Sequence[tuple[str, Sample]]
    ) -> None:
        """Run a block that is not done; its finished samples replay from memory, so that its batches are the same."""
        if all(key in done for key, _ in block):
            return
        seeded = [sample.seeded(self.settings.seed, round_number) for _, sample in block]
        with self.stop.in_batches():
            found = self.driver.run_block(steps, seeded)
            payloads = [(key, _payload(f, stage, round_number)) for (key, _), f in zip(block, found, strict=True)]
            done.append([(key, payload) for key, payload in payloads if key not in done])
        _stop_if_all_failed(found, stage)

    # Folds

    def _fold(self, stage: Stage, round_number: int) -> None:
        fold = stage.build(round_number)
        given = {name: self.output(name, round_number) for name in stage.reads}
        sources = [given[name].rows for name in stage.rows]
        if any(rows is None for rows in sources):
            raise UserError(f"stages.{stage.name}.rows: a named stage made a value, not rows")
        others = {name: o.rows or o.value for name, o in given.items() if name not in stage.rows}
        result = fold(_Chained([rows for rows in sources if rows is not None]), **others)
        self._keep_fold(stage, round_number, result)

    def _keep_fold(self, stage: Stage, round_number: int, result: Any) -> None:
        dropped: Mapping[str, int] = result.dropped if isinstance(result, Shaped) else {}
        rows = result.rows if isinstance(result, Shaped) else result
        if isinstance(rows, Sequence) and all(hasattr(row, "origin") for row in rows) and not isinstance(rows, str):
            path = self._path(round_number, f"{stage.name}.jsonl")
            write_rows(path, (row.model_dump(mode="json") for row in _reindexed(rows, stage.name, round_number)))
            self.outputs[round_number, stage.name] = Output(digest_file(path), RowsFile(path))
        else:
            path = self._path(round_number, f"{stage.name}.json")
            write_atomic(path, json.dumps(result, sort_keys=True))
            self.outputs[round_number, stage.name] = Output(digest_file(path), value=json.loads(path.read_text()))
        self._drops(round_number, stage.name, Counter(dropped))

    # Fits

    def _fit(self, stage: Stage, round_number: int) -> None:
        from vlm_selfalign.train.fit import FitSpec, fit

        settings = stage.at(round_number)
        loss = str(settings.pop("loss"))
        schedule = {name: settings.pop(name) for name in list(settings) if name in Schedule.model_fields}
        (rows_stage,) = stage.rows
        rows = self.output(rows_stage, round_number)
        if rows.rows is None or not len(rows.rows):
            raise UserError(f"stages.{stage.name}: '{rows_stage}' made no rows to learn from{self._why_none()}")
        out = self.folder / "rounds" / str(round_number) / stage.role
        if any(path == str(out) for path in self.roles.versions.get(stage.role, [])):
            out = out.with_name(f"{stage.role}-{stage.name}")
        spec = FitSpec(
            loss=loss,
            settings=settings,
            schedule=Schedule(**schedule),
            training=self.settings.training,
            model=self.roles.models[stage.role],
            start=self.roles.path(stage.role),
            rows=str(self._path(round_number, f"{rows_stage}.jsonl")),
            out=str(out),
            seed=self.settings.seed + round_number,
        )
        self.roles.release()
        with tqdm(desc=f"round {round_number} {stage.name}", unit="step") as bar:

            def progress(phase: str, done: int, total: int, line: Mapping[str, float]) -> None:
                bar.total, bar.n = total, done
                bar.set_postfix_str(f"{phase} loss={line['loss']:.4f}" if "loss" in line else phase)
                self._progress(round_number, stage.name, done, total)

            fitted = fit(spec, progress)
        self._drops(round_number, stage.name, Counter(fitted.dropped))
        self.roles.promote(stage.role, out)

    # The run directory

    def _path(self, round_number: int, name: str) -> Path:
        path = self.folder / "rounds" / str(round_number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _drops(self, round_number: int, stage: str, counts: Counter[str]) -> None:
        counts = +counts  # a reason that never came up is none
        path = self.folder / "drops.jsonl"
        kept = [line for line in growing_lines(path) if (line["round"], line["stage"]) != (round_number, stage)]
        kept += [{"round": round_number, "stage": stage, "reason": r, "count": n} for r, n in counts.most_common()]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
        if counts:
            log.info("round %d, %s: %s", round_number, stage, ", ".join(f"{n} x {r}" for r, n in counts.most_common(4)))

    def _why_none(self) -> str:
        """The commonest reasons for which samples and rows left, or nothing."""
        drops = sorted(growing_lines(self.folder / "drops.jsonl"), key=lambda drop: -drop["count"])
        told = "; ".join(f"{drop['stage']} dropped {drop['count']} x {drop['reason']}" for drop in drops[:3])
        return f": {told}" if told else ""

    def _progress(self, round_number: int, stage: str, done: int, total: int) -> None:
        state = {"round": round_number, "stage": stage, "done": done, "total": total, "time": time.time()}
        write_atomic(self.folder / "progress.json", json.dumps(state))


class _Chained:
    """Rows of several stages, one after the other, as often as wanted."""

    def __init__(self, parts: Sequence[RowsFile]) -> None:
        self.parts = parts

    def __iter__(self) -> Any:
        for part in self.parts:
            yield from part

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)


def follow(bar: tqdm, before: int) -> Callable[[int, int], None]:
    """Shows a driver's progress: samples finished, and requests answered while none is."""

    def told(finished: int, requests: int) -> None:
        bar.set_postfix_str(f"{requests} answers", refresh=False)
        bar.update(before + finished - bar.n)
        bar.refresh()

    return told


def _with_vocabulary(stage: Stage, settings: RunSettings) -> Stage:
    """Stages that read claims read them with the words of the run's data, unless they name their own."""
    if stage.plugin and "vocabulary" in stage.plugin.filled(stage.at(0)) and "vocabulary" not in stage.settings:
        return stage.having(vocabulary=vocabulary_of(settings))
    return stage


def vocabulary_of(settings: RunSettings) -> str:
    """The words claims are read with: as set, or those of the drawn world, and ``open`` for anything else."""
    return settings.data.vocabulary or WORDS.get(source_name(settings.data), "open")


def _payload(finished: Finished, stage: Stage, round_number: int) -> dict[str, Any]:
    origin = Origin(sample=finished.sample.id, stage=stage.name, round=round_number)
    rows = [
        row.model_copy(update={"origin": origin, "index": place}).model_dump(mode="json")
        for place, row in enumerate(finished.rows)
    ]
    return {"sample": finished.sample.id, "rows": rows, "drop": finished.drop, "error": finished.error}


def _stop_if_all_failed(found: Sequence[Finished], stage: Stage) -> None:
    """A block in which every sample hit an exception is a bug of the method, not bad luck: show it."""
    if found and all(finished.error for finished in found):
        raise RuntimeError(f"stages.{stage.name}: every sample of a block failed; the first:\n{found[0].error}")


def _rows_of(done: Any, wanted: KeyIndex, drops: Counter[str]) -> Iterable[dict[str, Any]]:
    """Rows of the wanted samples in the order of their ids; why the others have none is counted on the way.

    What was finished may be more: a source can have lost or changed a sample since.
    """
    for key, payload in done.ordered("sample"):
        if not wanted.find(bytes.fromhex(key)):
            continue
        if payload["drop"]:
            drops[payload["drop"]] += 1
        yield from payload["rows"]


def _reindexed(rows: Sequence[Row], stage: str, round_number: int) -> list[Row]:
    places: Counter[str] = Counter()
    result = []
    for row in sorted(rows, key=lambda row: (row.origin.sample, row.index)):
        origin = Origin(sample=row.origin.sample, stage=stage, round=round_number)
        result.append(row.model_copy(update={"origin": origin, "index": places[row.origin.sample]}))
        places[row.origin.sample] += 1
    return result


def _longest(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: -item[1])
