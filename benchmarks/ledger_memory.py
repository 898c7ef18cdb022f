"""How much memory a run's memory needs: finished samples and their replies, written, opened again, put in order.

    python benchmarks/ledger_memory.py --samples 1000000

The bound is 400 MB + 100 bytes per sample over what the interpreter and its imports take. Writing and resuming are
measured in a process each, so that one's peak does not hide the other's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vlm_selfalign.core.ledger import Ledger, RowsFile, write_rows
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import Text
from vlm_selfalign.core.rows import Origin, Pair
from vlm_selfalign.core.seeds import digest

BATCH = 64
STAGE = "0-pairs"
WORDS = "a red cube stands left of a small green ball and a tall blue cone on a grey table under a lamp "


def names(samples: int) -> Iterator[list[str]]:
    """Sample ids, a batch at a time."""
    for start in range(0, samples, BATCH):
        yield [digest("sample", n) for n in range(start, min(samples, start + BATCH))]


def write(folder: Path, samples: int) -> dict[str, float]:
    """Two replies and one finished sample each, as a run leaves them."""
    prompt = Prompt.user("Describe the image.")
    reply = Text(text=WORDS * 3, ids=tuple(range(60)), finish="end")
    pair = Pair(prompt=prompt, chosen=WORDS * 3, rejected=WORDS * 3).model_dump(mode="json")
    start = time.perf_counter()
    with Ledger(folder) as ledger:
        done = ledger.finished(STAGE)
        for batch in names(samples):
            for turn in range(2):
                ledger.remember([(name, digest(name, turn), reply) for name in batch])
            done.append((digest(name, STAGE), finished(name, pair)) for name in batch)
    seconds = time.perf_counter() - start
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"items_per_s": 3 * samples / seconds, "bytes_per_sample": stored / samples}


def finished(name: str, pair: dict) -> dict:
    """The record of a finished sample with one row."""
    origin = Origin(sample=name, stage="pairs").model_dump()
    return {"sample": name, "rows": [{**pair, "origin": origin}], "drop": None, "error": None}


def resume(folder: Path, samples: int) -> dict[str, float]:
    """Open, and ask for every sample whether it is finished."""
    start = time.perf_counter()
    with Ledger(folder) as ledger:
        done = ledger.finished(STAGE)
        opened = time.perf_counter() - start
        known = sum(digest(name, STAGE) in done for batch in names(samples) for name in batch)
    assert known == samples, f"{samples - known} samples are lost"
    return {"open_s": opened, "resume_s": time.perf_counter() - start}


def order(folder: Path, samples: int) -> dict[str, float]:
    """Write the stage's rows sorted by sample id, then index them and read a few."""
    path = folder / "pairs.jsonl"
    start = time.perf_counter()
    with Ledger(folder) as ledger:
        ordered = ledger.finished(STAGE).ordered("sample")
        write_rows(path, (row for _, payload in ordered for row in payload["rows"]))
    written = time.perf_counter() - start
    rows = RowsFile(path)
    assert len(rows) == samples and all(len(rows.of(name)) == 1 for name in next(names(samples)))
    return {"order_s": written, "index_s": time.perf_counter() - start - written}


STEPS: dict[str, Callable[[Path, int], dict[str, float]]] = {"write": write, "resume": resume, "order": order}


def measured(step: str, folder: Path, samples: int) -> dict[str, float]:
    """Run one step in this process; its figures and its peak memory over what it began with."""
    baseline = peak_mb()
    figures = STEPS[step](folder, samples)
    return {**figures, "peak_mb": peak_mb() - baseline}


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> int:
    """Print each step's figures; 1 when the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write some 2.5 kB per sample; a temporary folder")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(measured(asked.step, asked.folder, asked.samples)))
        return 0
    bound = 400 + 100 * asked.samples / 1e6
    highest = 0.0
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--samples", str(asked.samples), "--folder", folder]
            figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout)
            highest = max(highest, figures["peak_mb"])
            print(f"{step:8}" + "  ".join(f"{name} {value:,.1f}" for name, value in figures.items()), flush=True)
    print(f"peak over baseline {highest:,.0f} MB, bound {bound:,.0f} MB: {'kept' if highest <= bound else 'BROKEN'}")
    return int(highest > bound)


if __name__ == "__main__":
    sys.exit(main())
