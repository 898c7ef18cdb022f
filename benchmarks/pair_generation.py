"""Pair generation over many drawn clips: memory, exact resume after ``kill -9``, and where the time goes.

    python benchmarks/pair_generation.py --clips 10000                    # tiny random weights: no pair is any good
    python benchmarks/pair_generation.py --clips 10000 --model FOLDER     # a model that knows clips

Each run is a process of its own, whose memory is read from outside. It is made three times: a small one, to tell what
grows with the clips; a large one; and the small one again, killed without warning at several moments and continued,
whose rows must be those of the first to the byte. What models, processors, decoders and drawing take is timed by
wrapping the calls; all else is overhead, and should be under 15 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

BOUND = 0.15
EVERY_S = 0.2
"""Between looks at a process's memory."""


def one_run(recipe: str, clips: int, model: str, out: str, block: int, more: list[str]) -> dict[str, float]:
    """Make the pairs in this process; seconds by part, as wrapped calls count them."""
    from vlm_selfalign.data.world.clips import WorldClips
    from vlm_selfalign.data.world.clips import draw as drawing
    from vlm_selfalign.models import hf
    from vlm_selfalign.models.encode import Encoder

    clock = Clock()
    clock.wrap(drawing, "draw_story", "drawing")
    clock.wrap(WorldClips, "__getitem__", "drawing")  # stories and truths: the source's own work
    clock.wrap(Encoder, "batch", "processor")
    clock.wrap(hf.HFService, "serve", "model")
    import vlm_selfalign as sa

    started = time.perf_counter()
    parts = [recipe, f"out={out}", f"model.path={model}", f"data.limit={clips}", f"block={block}", *more]
    result = sa.run(*parts, verb="pairs", show=lambda line: print(line, file=sys.stderr, flush=True))
    whole = time.perf_counter() - started
    rows = {path.stem: sum(1 for _ in path.open()) for path in result.folder.glob("rounds/0/*.jsonl")}
    return {"whole": whole, **clock.seconds, **{f"{name} rows": float(count) for name, count in rows.items()}}


class Clock:
    """Seconds inside wrapped calls, each call's without those inside it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Count what ``owner.name`` takes as ``part``."""
        call: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent = time.perf_counter() - started
                self.seconds[part] += spent - self._inner.pop()
                self._inner[-1] += spent

        setattr(owner, name, timed)


def command(asked: argparse.Namespace, clips: int, out: Path) -> list[str]:
    """One run, by this same file."""
    told = ["--one", str(out), "--clips", str(clips), "--model", asked.model, "--recipe", asked.recipe]
    return [sys.executable, __file__, *told, "--block", str(asked.block), *asked.more]


def watched(words: list[str], until: float | None = None) -> tuple[dict[str, float] | None, float]:
    """Run to the end, or kill without warning after ``until`` seconds; figures (None if killed) and peak MB."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        ) as process,
    ):
        started, peak = time.monotonic(), 0.0
        while process.poll() is None:
            peak = max(peak, resident_mb(process.pid))
            if until is not None and time.monotonic() - started > until:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return None, peak
            time.sleep(EVERY_S)
        assert process.stdout
        told = process.stdout.read()
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"a run failed:\n{errors.read()[-2000:]}")
    return json.loads(told), peak


def resident_mb(pid: int) -> float:
    """Resident memory of a live process in MB; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS")), 0.0)


def rows_of(out: Path) -> str:
    """A digest of all rows a run left."""
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(out.glob("rounds/0/*.jsonl")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def killed_and_continued(asked: argparse.Namespace, clips: int, out: Path, seconds: float) -> int:
    """Kill the run at random moments until it gets through; how often it was killed."""
    chance, kills = random.Random(asked.seed), 0
    while kills < asked.kills:
        figures, _ = watched(command(asked, clips, out), until=chance.uniform(0.3, 0.9) * seconds)
        if figures is not None:
            return kills
        kills += 1
    watched(command(asked, clips, out))
    return kills


def shares(figures: dict[str, float], less: dict[str, float]) -> tuple[dict[str, float], float]:
    """Shares of the whole by part, and the overhead: what is none of them.

    ``less`` is taken off: of a smaller run, so that what starting costs (imports, the check, loading) counts for none.
    """
    whole = figures["whole"] - less.get("whole", 0.0)
    parts = {n: (figures.get(n, 0.0) - less.get(n, 0.0)) / whole for n in ("model", "processor", "drawing")}
    return parts, 1 - sum(parts.values())


def main() -> int:
    """Print memory, speed, shares and whether the rows are the same; 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--small", type=int, help="clips of the small run; a tenth")
    parser.add_argument("--model", default="tiny:qwen2_5_vl")
    parser.add_argument("--recipe", default="mirror_clips")
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    asked, asked.more = parser.parse_known_args()
    if asked.one:
        print(json.dumps(one_run(asked.recipe, asked.clips, asked.model, asked.one, asked.block, asked.more)))
        return 0
    small = asked.small or max(asked.block, asked.clips // 10)
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        began = time.monotonic()
        few, few_mb = watched(command(asked, small, there / "few"))
        seconds = time.monotonic() - began
        kills = killed_and_continued(asked, small, there / "killed", seconds)
        same = rows_of(there / "few") == rows_of(there / "killed")
        many, many_mb = watched(command(asked, asked.clips, there / "many")) if asked.clips > small else (few, few_mb)
    assert few and many
    parts, overhead = shares(many, few if many is not few else {})
    whole_parts, with_start = shares(many, {})
    found = {
        "clips": asked.clips, "small": small, "model": asked.model, "recipe": asked.recipe,
        "clips_per_s": asked.clips / many["whole"], "peak_mb": many_mb, "peak_mb_small": few_mb,
        "kills": kills, "same_rows_after_kills": same,
        "shares": whole_parts, "overhead_with_start": with_start,
        "shares_of_added_clips": parts, "overhead": overhead,
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(not same or overhead > BOUND)


if __name__ == "__main__":
    sys.exit(main())
