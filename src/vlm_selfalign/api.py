"""A whole run from Python or the command line: check, make pairs, train, measure, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlm_selfalign.config import RunSettings, load_parts
from vlm_selfalign.core.driver import Decoder
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.ledger import RowsFile
from vlm_selfalign.core.requests import Service
from vlm_selfalign.core.rows import Row
from vlm_selfalign.signals import Stop

Verb = Literal["run", "pairs", "train", "measure"]


@dataclass(frozen=True)
class Result:
    """A run directory after a run."""

    folder: Path
    settings: RunSettings

    def rows(self, stage: str, round_number: int = 0) -> list[Row]:
        """The rows of a stage, in (sample, index) order."""
        return list(RowsFile(self.folder / "rounds" / str(round_number) / f"{stage}.jsonl"))

    @property
    def policy(self) -> Path:
        """The newest version of the policy: a folder that transformers (or PEFT) loads."""
        found = sorted(self.folder.glob("rounds/*/policy*/MANIFEST.json"), key=lambda path: int(path.parts[-3]))
        return found[-1].parent

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured: every arm, every difference."""
        return json.loads((self.folder / "metrics.json").read_text())

    @property
    def headline(self) -> list[str]:
        """The numbers the run ends with, a line each."""
        from vlm_selfalign.measure import headline

        return headline(self.metrics)


def run(
    *parts: str | Path | RunSettings,
    services: Mapping[str, Service | Decoder] | None = None,
    stop: Stop | None = None,
    show: Callable[[str], None] = print,
    verb: Verb = "run",
) -> Result:
    """Run a recipe: files and ``key=value`` overrides as on the command line, or finished settings.

    ``services`` answer in place of loaded models, by role: ``{"policy": Scripted(...)}``. A run that was interrupted
    goes on. Raises ``UserError``, ``TryAgain`` or ``Interrupted``.
    """
    first = parts[0] if parts else None
    settings = first if isinstance(first, RunSettings) else load_parts([p for p in parts if isinstance(p, (str, Path))])
    from vlm_selfalign.check import check
    from vlm_selfalign.recipe import Run

    stop = stop or Stop()
    if verb == "measure":
        _refuse_untrained(settings)
    check(settings, services=services, show=show)
    whole = Run(settings, services=services, stop=stop)
    try:
        whole.execute(only_rows=verb == "pairs")
        if verb in {"run", "measure"} and settings.measure.probes:
            _measure_and_report(whole, show)
    finally:
        whole.close()
    for line in whole.times():
        show(line)
    return Result(whole.folder, settings)


def _refuse_untrained(settings: RunSettings) -> None:
    trains = any("fit" in stage for stage in settings.stages.values())
    if not any(settings.folder.glob("rounds/*/*/MANIFEST.json" if trains else "run.json")):
        raise UserError(f"{settings.folder}: nothing has been trained there to measure; use run or train first")


def _measure_and_report(whole: Any, show: Callable[[str], None]) -> None:
    from vlm_selfalign.measure import headline, measure
    from vlm_selfalign.report.page import write_page

    metrics = measure(whole)
    page = write_page(whole.folder)
    for line in headline(metrics):
        show(line)
    show(f"page: {page}")
