"""Several losses on the same pairs over beta and learning rate: gain against drift as a curve for each.

::

    python -m vlm_selfalign.sweep rrpo out=runs/rrpo beta='[.1, .5]' learning_rate='[5.0e-5, 2.0e-4]'

RRPO's claim (Sarkar et al. 2025) is less drift for the same gain; one beta and one learning rate for each loss can show
anything. The recipe's own pairs are made once, each point is one fit of its last round, measured on the same samples.
Killed anywhere, the same command goes on: a point that is done is not done again. ``sweep.json`` in the run directory
and a section of its page are what is left.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from vlm_selfalign.arms import Arm, answer_all
from vlm_selfalign.check import check
from vlm_selfalign.config import RunSettings, Schedule, Settings, load_parts
from vlm_selfalign.core.disk import write_atomic
from vlm_selfalign.core.driver import Decoder
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import explain, resolve
from vlm_selfalign.core.requests import Service
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.core.stages import Stage
from vlm_selfalign.measure import PRIMARY, measures_of, plain, primary_of, read_told
from vlm_selfalign.metrics.items import Measure
from vlm_selfalign.metrics.statistics import difference, estimate
from vlm_selfalign.recipe import Run, vocabulary_of
from vlm_selfalign.report.page import write_page
from vlm_selfalign.report.sweep import FILE
from vlm_selfalign.scoring.vocabulary import Vocabulary
from vlm_selfalign.signals import Stop

KEPT = ("chair_i", "recall", "event_chair_i", "event_recall", "order_accuracy", "length", "kl_per_token")
"""Measures of a point that are kept, and those of pairs of questions."""


class SweepSettings(Settings):
    """What is swept; beta and learning rate for every loss alike."""

    losses: dict[str, dict[str, Any]] = Field(default={"dpo": {}, "rrpo": {}}, min_length=1)
    """Losses, each with settings of its own; what the recipe sets for its loss holds where they do not."""
    beta: tuple[float, ...] = Field(default=(0.05, 0.2, 0.5, 2.0), min_length=1)
    learning_rate: tuple[float, ...] = Field(default=(2e-5, 5e-5, 1e-4, 2e-4), min_length=1)

    def points(self) -> list[tuple[str, dict[str, float]]]:
        """(loss, beta and learning rate) in turn, so that a sweep that is stopped has some of each loss."""
        grid = itertools.product(self.learning_rate, self.beta, self.losses)
        return [(loss, {"beta": beta, "learning_rate": rate}) for rate, beta, loss in grid]


def sweep(
    settings: RunSettings,
    swept: SweepSettings,
    *,
    services: Mapping[str, Service | Decoder] | None = None,
    stop: Stop | None = None,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make the pairs, fit and measure every point, write ``sweep.json`` and the page. Raises ``UserError``."""
    check(settings, services=services, show=show)
    run = Run(settings, services=services, stop=stop)
    try:
        stage = _fit_stage(run)
        for loss, own in swept.losses.items():
            _own_settings(stage, loss, own)  # before hours are spent on pairs
        run.execute(only_rows=True)
        start = _measured(run, Arm("start", "before training, greedy", "start", "policy@0", probed=True))
        points = []
        for loss, given in swept.points():
            points.append(_point(run, stage, loss, {**swept.losses[loss], **given}, start))
            _write(run, points, start)
            show(_told(points[-1], primary_of(start)))
    finally:
        run.close()
    show(f"page: {write_page(run.folder)}")
    return json.loads((run.folder / FILE).read_text())


def _fit_stage(run: Run) -> Stage:
    found = [stage for stage in run.stages if stage.kind == "fit" and stage.runs_in(0)]
    if not found:
        raise UserError("stages: nothing to sweep, no stage of round 0 is a fit")
    return found[0]


def _point(run: Run, stage: Stage, loss: str, given: Mapping[str, Any], start: Mapping[str, Measure]) -> dict[str, Any]:
    """One fit and its measures, from disk where they are there."""
    own = _own_settings(stage, loss, given)
    rows = run.output(stage.rows[0], 0)
    schedule = {**{k: v for k, v in stage.at(0).items() if k in Schedule.model_fields},
                **{k: v for k, v in given.items() if k in Schedule.model_fields}}  # fmt: skip
    probes = run.settings.measure.model_dump(mode="json", include={"probes", "limit", "data", "resamples"})
    key = digest(loss, own, schedule, rows.digest, run.roles.path(stage.role), run.settings.seed, probes)[:16]
    folder = run.folder / "sweep" / f"{loss}-{key}"
    kept = folder / "point.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    _fit(run, stage, loss, own, schedule, folder / stage.role)
    before = list(run.roles.versions[stage.role])
    run.roles.promote(stage.role, folder / stage.role)
    try:
        after = _measured(run, Arm("trained", f"after training, {loss}", "trained", "policy", probed=True))
    finally:
        run.roles.versions[stage.role] = before
    point = {"loss": loss, "settings": dict(given), **_estimates(run, after, start)}
    write_atomic(kept, json.dumps(point, indent=1))
    return point


def _own_settings(stage: Stage, loss: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What this loss is given of the recipe's settings and the point's: those it knows. A misspelt one is refused."""
    known = resolve("loss", loss, "losses").parameters
    unknown = [name for name in given if name not in known and name not in Schedule.model_fields]
    if unknown:
        raise UserError(f"losses.{loss}.{unknown[0]}: unknown key; {loss} has {', '.join(known)}")
    of_recipe = stage.at(0) if stage.at(0)["loss"] == loss else {}
    return {name: value for name, value in {**of_recipe, **given}.items() if name in known}


def _fit(run: Run, stage: Stage, loss: str, own: Mapping[str, Any], schedule: Mapping[str, Any], out: Path) -> None:
    from vlm_selfalign.train.fit import FitSpec, fit

    rows = run.output(stage.rows[0], 0)
    if rows.rows is None or not len(rows.rows):
        raise UserError(f"stages.{stage.name}: '{stage.rows[0]}' made no rows to learn from")
    out.parent.mkdir(parents=True, exist_ok=True)
    spec = FitSpec(
        loss=loss,
        settings=dict(own),
        schedule=Schedule(**schedule),
        training=run.settings.training,
        model=run.roles.models[stage.role],
        start=run.roles.path(stage.role),
        rows=str(run.folder / "rounds" / "0" / f"{stage.rows[0]}.jsonl"),
        out=str(out),
        seed=run.settings.seed,
    )
    run.roles.release()
    fit(spec)


def _measured(run: Run, arm: Arm) -> dict[str, Measure]:
    samples, (answers,) = answer_all(run, [arm])
    words = Vocabulary.load(vocabulary_of(run.settings))
    return measures_of(answers, read_told(answers, samples, words), samples)


def _estimates(run: Run, after: Mapping[str, Measure], start: Mapping[str, Measure]) -> dict[str, Any]:
    draws, seed = run.settings.measure.resamples, run.settings.seed
    names = [name for name in after if name in KEPT or name.endswith("/both_right")]
    values = {name: estimate(after[name], draws, seed=seed) for name in names}
    changes = {
        name: difference(start[name], after[name], draws, seed=seed)
        for name in names
        if name in start and set(start[name].clusters) == set(after[name].clusters)
    }
    return {
        "measures": {name: plain(found) for name, found in values.items() if found},
        "differences": {name: plain(found) for name, found in changes.items() if found},
    }


def _write(run: Run, points: Sequence[Mapping[str, Any]], start: Mapping[str, Measure]) -> None:
    primary = primary_of(start)
    found = {
        "schema": 1,
        "recipe": run.settings.name,
        "seed": run.settings.seed,
        "model": run.settings.model.path,
        "primary": primary,
        "recall": PRIMARY[primary],
        "start": _estimates(run, start, {})["measures"],
        "points": list(points),
    }
    write_atomic(run.folder / FILE, json.dumps(found, indent=1, allow_nan=False))


def _told(point: Mapping[str, Any], primary: str) -> str:
    settings = ", ".join(f"{name} {value:g}" for name, value in point["settings"].items() if isinstance(value, float))
    cells = [f"{name} {point['measures'][name]['value']:.4f}" for name in (primary, PRIMARY[primary], "kl_per_token")
             if name in point["measures"]]  # fmt: skip
    return f"{point['loss']}, {settings}: " + ", ".join(cells)


def parse(parts: Sequence[str]) -> tuple[RunSettings, SweepSettings]:
    """A recipe with its overrides, as for a run; ``losses=``, ``beta=`` and ``learning_rate=`` are the sweep's."""
    own = {
        name: text for part in parts for name, _, text in [part.partition("=")] if name in SweepSettings.model_fields
    }
    rest = [part for part in parts if part.partition("=")[0] not in SweepSettings.model_fields]
    try:
        given = SweepSettings.model_validate({name: yaml.safe_load(text) for name, text in own.items()})
    except ValidationError as error:
        raise UserError(explain(error, "", SweepSettings)) from None
    return load_parts(rest), given


def main() -> None:
    """``python -m vlm_selfalign.sweep RECIPE [key=value ...]``; exit codes are those of ``vlm-selfalign``."""
    from vlm_selfalign.core.errors import Interrupted, TryAgain

    stop = Stop().install()
    try:
        sweep(*parse(sys.argv[1:]), stop=stop, show=lambda line: print(line, flush=True))  # noqa: T201
    except UserError as error:
        sys.exit(_failed(f"error: {error}", 2))
    except TryAgain as error:
        sys.exit(_failed(f"try again: {error}", 75))
    except Interrupted as stopped:
        sys.exit(_failed(str(stopped), stopped.exit_code))


def _failed(line: str, code: int) -> int:
    sys.stderr.write(f"{line}\n")
    return code


if __name__ == "__main__":
    main()
