"""Five samples for real: the same stages, models and seeds as the run, nothing kept but a page to look at."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vlm_selfalign.config import RunSettings
from vlm_selfalign.core.driver import Decoder
from vlm_selfalign.core.requests import Service
from vlm_selfalign.samples import training_samples


def preview(
    settings: RunSettings,
    *,
    services: Mapping[str, Service | Decoder] | None = None,
    show: Callable[[str], None] = print,
    samples: int = 5,
) -> Path:
    """Run the stages before the first fit on a few samples; print their rows and write them with their pictures."""
    from vlm_selfalign.check import check
    from vlm_selfalign.recipe import Run
    from vlm_selfalign.report.gallery import write_preview

    check(settings, services=services, show=show)
    with tempfile.TemporaryDirectory() as scratch:
        few = settings.data.model_copy(update={"limit": samples})
        run = Run(settings.model_copy(update={"data": few, "out": scratch}), services=services)
        started = time.perf_counter()
        run.execute(only_rows=True)
        each = (time.perf_counter() - started) / max(len(run.samples), 1)
        for (round_number, stage), output in run.outputs.items():
            rows = list(output.rows) if output.rows is not None else []
            show(
                f"{stage} (round {round_number}): " + (f"{len(rows)} rows" if output.rows else str(output.value)[:200])
            )
            for row in rows[:3]:
                show(f"  {_line(row)}")
        run.close()
        page = write_preview(Path(scratch))
        target = settings.folder.with_name(f"{settings.folder.name}.preview.html")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)
    whole = len(training_samples(settings))
    show(f"time: {each:.1f} s a sample here, at most {each * whole / 60:.0f} min for {whole}; larger batches take less")
    show(f"page: {target}")
    return target


def _line(row: object) -> str:
    fields = {
        name: getattr(row, name) for name in ("chosen", "rejected", "answer", "completions") if hasattr(row, name)
    }
    return "  |  ".join(f"{name}: {value!r}" for name, value in fields.items())
