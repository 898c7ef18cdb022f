"""One preference step, ours against TRL's, at equal loss and gradients.

    python benchmarks/preference_step.py                          # all that is not measured yet, one after the other
    python benchmarks/preference_step.py --rows picture video --reps 15
    python benchmarks/preference_step.py --quick                  # every row, tiny: does it run, are the numbers equal
    python benchmarks/preference_step.py --list

Both sides train the same random-weight Qwen2.5-VL on the same token ids: TRL's own ``DPOTrainer.training_step`` with
the prompt and picture in the batch twice, as its collator makes it, and our ``FitTrainer.training_step`` on a tree.
TRL has no collator for clips; its ``compute_loss`` is fed by ours. Runs train 64 pairs from rows on disk to a saved
version. One process, one thread, repetitions interleaved, CPU seconds, medians with a bootstrap interval of each ratio;
the loss difference, gradient error, counted FLOPs and peak memory stand in every row. What is measured is kept in
``docs/results/performance.json`` at once, so a run that was cut off goes on, and shown in ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from preference_step_sides import Setting, Step, build, our_run, ours, pairs, their_run, theirs
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from vlm_selfalign.models.load import quiet

DOCS = Path(__file__).parents[1] / "docs"
DEFAULT, BEST = "TRL, checkpointing", "TRL, compact head"
"""TRL as it is set up by itself, and at its best: no checkpointing, output layer on answers only."""
ALIKE = {
    "ours, checkpointing": "TRL, checkpointing, compact head",
    "ours, checkpointing, caches warm": "TRL, checkpointing, compact head",
    "ours": BEST,
    "ours, caches warm": BEST,
}
SHORT = (DEFAULT, BEST, "ours", "ours, caches warm")
EVERY = (DEFAULT, "TRL, checkpointing, compact head", "TRL", BEST, *ALIKE)
SETTINGS = {
    "picture": Setting(),
    "video": Setting(clip=True),
    "8-pairs": Setting(chosen=64, rejected=64, pairs=8),
    "vocabulary-32k": Setting(vocabulary=32000),
    "256-tokens": Setting(visual=256, chosen=64, rejected=64, pairs=2, pictures=2),
    "uneven": Setting(chosen=192, rejected=64),
    "common-words": Setting(common=64),
    "few-visual": Setting(visual=64, chosen=96, rejected=32, pairs=4, pictures=4),
    "full": Setting(visual=256, chosen=64, rejected=64, pairs=2, pictures=2, train="full"),
    "lora-vision": Setting(visual=256, chosen=64, rejected=64, pairs=2, pictures=2, train="lora-vision"),
}
RUNS = {"run-1-epoch": 1, "run-3-epochs": 3}
RUN = Setting(pairs=64, pictures=64)


def main() -> None:
    """Measure what is missing, keep it, show it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", default=[*SETTINGS, *RUNS], choices=[*SETTINGS, *RUNS])
    parser.add_argument("--reps", type=int, default=15, help="repetitions of a step")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of a run")
    parser.add_argument("--pairs", type=int, default=RUN.pairs, help="pairs of a run")
    parser.add_argument("--quick", action="store_true", help="tiny, once, nothing kept")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        sys.exit("\n".join(f"{name}: {setting}" for name, setting in SETTINGS.items()))
    torch.set_num_threads(1)
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # its profiler looks for a GPU and says so
    warnings.filterwarnings("ignore", category=FutureWarning)  # TRL's and transformers' words on checkpointing
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "quick.json" if given.quick else DOCS / "results" / "performance.json"
        for name in given.rows:
            measure(name, given, kept, Path(folder) / name)
        known = json.loads(kept.read_text())
    print(shown(known))
    if not given.quick:
        page = DOCS / "performance.md"
        mark = r"(<!-- measured -->\n).*(<!-- end -->)"
        page.write_text(
            re.sub(mark, lambda found: found[1] + shown(known) + "\n" + found[2], page.read_text(), flags=re.S)
        )


def measure(name: str, given: argparse.Namespace, kept: Path, folder: Path) -> None:
    """One setting's rows, or one run's."""
    folder.mkdir()
    if name in RUNS:
        setting = replace(RUN, pairs=given.pairs, pictures=given.pairs)
        setting = replace(setting, visual=64, chosen=8, rejected=8, pairs=2, pictures=2) if given.quick else setting
        start, items = build(setting, folder / "model"), pairs(setting, folder)
        sides = {
            side: partial(run, setting, start, items, RUNS[name])
            for side, run in ((DEFAULT, their_run), ("ours", our_run))
        }
        timed(name, setting, sides, 1 if given.quick else given.runs, kept, _mean_loss)
        return
    setting = SETTINGS[name]
    if given.quick:
        count, pictures, common = (min(2, setting.pairs), min(2, setting.pictures), min(4, setting.common))
        rejected = 8 if name == "uneven" else 16
        setting = replace(
            setting, visual=64, chosen=16, rejected=rejected, pairs=count, pictures=pictures, common=common
        )
    start, items = build(setting, folder / "model"), pairs(setting, folder)
    sides = made(setting, start, items, folder, {"picture": EVERY, "8-pairs": SHORT[1:]}.get(name, SHORT))
    timed(name, setting, sides, 1 if given.quick else given.reps, kept, partial(_numbers, wanted=[]))


def made(setting: Setting, start: str, items: list[Any], folder: Path, names: Sequence[str]) -> dict[str, Step]:
    """A setting's steps by the names of their rows."""
    steps = {}
    for name in names:
        checkpointing, special = "checkpointing" in name, "compact" in name or "warm" in name
        side = theirs if name.startswith("TRL") else ours
        steps[name] = side(setting, start, items, folder, checkpointing, special)
    return steps


def timed(
    name: str, setting: Setting, sides: dict[str, Any], reps: int, kept: Path, look: Callable[[Any], dict[str, float]]
) -> None:
    """CPU seconds of each side, interleaved, added to what is kept; ``look`` gives a new row its other numbers."""
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    report = known.setdefault(name, {"rows": {}})
    if report.get("setting", asdict(setting)) != asdict(setting):
        sys.exit(f"{kept}: {name} was measured with another setting; remove it there to measure it again")
    report["setting"] = asdict(setting)
    rows = report["rows"]
    if any(side not in rows for side in sides):  # all or none: what they give is compared with the first one's
        rows.clear()
    for rep in range(reps):
        for side, step in sides.items():
            if side not in rows:
                print(f"{name}: {side}", file=sys.stderr, flush=True)
                rows[side] = {"cpu_s": [], **look(step)}
            if len(rows[side]["cpu_s"]) <= rep:
                started = time.process_time()
                found = step()
                rows[side]["cpu_s"].append(time.process_time() - started)
                if isinstance(found, float):
                    rows[side]["mean_loss"] = found
        kept.write_text(json.dumps(known, indent=1))


def _numbers(step: Step, wanted: list[Any]) -> dict[str, float]:
    """One run of a step beside the first step's, ``wanted``, which the first call fills in."""
    found: list[Any] = []
    with FlopCounterMode(display=False) as counter:
        resident_mb = resident(lambda: found.append(step()))
    wanted[:] = wanted or found
    error = compared(*found.pop(), *wanted[0])
    peak_mb = peak(step)
    return {**error, "gflop": counter.get_total_flops() / 1e9, "peak_mb": peak_mb, "resident_mb": resident_mb}


def _mean_loss(_: Any) -> dict[str, float]:
    return {}


def compared(
    found: float, grads: dict[str, torch.Tensor], loss: float, wanted: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Loss difference and relative gradient distance; both sides must train the same parameters."""
    assert grads.keys() == wanted.keys(), sorted(grads.keys() ^ wanted.keys())[:3]
    size = sum(float(g.double().square().sum()) for g in wanted.values()) ** 0.5
    apart = sum(float((grads[n].double() - g.double()).square().sum()) for n, g in wanted.items()) ** 0.5
    return {"loss_difference": abs(found - loss), "gradient_error": apart / size}


def flops(work: Callable[[], Any]) -> int:
    """Floating point operations of matrix products and attention, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak(work: Callable[[], Any]) -> float:
    """Most bytes of tensors held at once above what is there before, in MB, as torch's allocator tells."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = (e for e in found.profiler.kineto_results.events() if e.name() == "[memory]")  # type: ignore[union-attr]
    changes = [change for _, change in sorted((e.start_ns(), e.nbytes()) for e in events)]
    return max(accumulate(changes)) / 2**20


def resident(work: Callable[[], Any]) -> float:
    """Peak of the resident memory above what is there before, in MB (Linux): with what the C library keeps back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    work()
    return (_memory("VmHWM") - before) / 1024


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def ratio(slow: list[float], fast: list[float], draws: int = 2000) -> tuple[float, float, float]:
    """Ratio of medians and its 95 % bootstrap interval; a repetition is drawn whole, being measured side by side."""
    chance, count = random.Random(0), min(len(slow), len(fast))
    found = []
    for _ in range(draws):
        drawn = [chance.randrange(count) for _ in range(count)]
        found.append(statistics.median(slow[i] for i in drawn) / statistics.median(fast[i] for i in drawn))
    found.sort()
    middle = statistics.median(slow[:count]) / statistics.median(fast[:count])
    return middle, found[int(0.025 * draws)], found[int(0.975 * draws)]


# What is shown


def shown(known: dict[str, Any]) -> str:
    """All that is kept as Markdown tables."""
    return "\n\n".join(_table(name, known[name]) for name in (*SETTINGS, *RUNS) if name in known)


def _table(name: str, report: dict[str, Any]) -> str:
    rows, usual = report["rows"], asdict(Setting())
    special = ", ".join(f"{key} {value}" for key, value in report["setting"].items() if value != usual[key])
    count = min(len(row["cpu_s"]) for row in rows.values())
    lines = [
        f"**{name}**{f' ({special})' if special else ''}, {count} repetitions",
        "",
        "| step | CPU s | against TRL's default | against TRL alike | GFLOP | peak MB | loss | gradient |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side, row in rows.items():
        cells = [side, f"{statistics.median(row['cpu_s']):.2f}"]
        cells += [_against(rows, other, side) for other in (DEFAULT, ALIKE.get(side, DEFAULT))]
        if "mean_loss" in row:
            cells += ["", "", f"{abs(row['mean_loss'] - rows[DEFAULT]['mean_loss']):.1e} (mean)", ""]
        else:
            cells += [f"{row['gflop']:.0f}", f"{row['peak_mb']:.0f}"]
            cells += [f"{row['loss_difference']:.1e}", f"{row['gradient_error']:.1e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _against(rows: dict[str, Any], other: str, side: str) -> str:
    if other not in rows or other == side:
        return ""
    found = ratio(rows[other]["cpu_s"], rows[side]["cpu_s"])
    few = min(len(rows[name]["cpu_s"]) for name in (other, side)) < 3  # of which no interval can be told
    return f"{found[0]:.2f}" if few else "{:.2f} ({:.2f}, {:.2f})".format(*found)


if __name__ == "__main__":
    main()
