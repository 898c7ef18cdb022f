"""Loaders of clips side by side: time, memory, and whether the frames are the right ones, in one run.

    python benchmarks/media.py --folder /tmp/clips          # some 15 minutes, clips are made once and kept
    python benchmarks/media.py --quick

Every frame carries its number as a bar code, so it is known which frame a loader really returned. Speed: each loader
sits in a process of its own; all of them load the same file before any loads it again, after one load that does not
count. Memory is the most that was resident during a load in the process that decodes, its interpreter included.
Rightness: every kind of clip of the tests, a loader that takes over a minute counted as an error.
Writes ``docs/results/media.json`` and ``docs/results/media.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from media_loaders import LOADERS, ROOT, THREADS, Loader, middles
from tests.media import awkward, clips

from vlm_selfalign.media.readers import Request, pyav

CORNER = 4
"""The bar code fills the upper left corner, one part in so many of each side; the rest is a moving scene."""

FILES = {  # width, height, frames at 30 a second
    "480p, 10 s": (854, 480, 300),
    "1080p, 20 s": (1920, 1080, 600),
    "480p, 600 s": (854, 480, 18_000),
}
QUICK = {"480p, 10 s": (854, 480, 300), "1080p, 5 s": (1920, 1080, 150), "480p, 60 s": (854, 480, 1800)}

PACKAGES = ("av", "decord", "torchcodec", "transformers", "torch", "numpy")


# --- clips -----------------------------------------------------------------------------------------------------------


def make(path: Path, width: int, height: int, frames: int) -> None:
    """A scene that drifts, with grain, under a bar code: x264 with key frames at most 250 frames apart."""
    import av

    chance = np.random.default_rng(0)
    scene = _scene(chance, width + 256, height + 256)
    aside = path.with_suffix(".part.mp4")
    with av.open(str(aside), "w") as container:
        options = {"preset": "veryfast", "crf": "23"}
        stream: Any = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = width, height, "yuv420p", 250
        stream.codec_context.thread_count = THREADS
        for number in range(frames):
            x, y = (int(128 + 127 * np.sin(number / period)) for period in (71, 113))
            pixels = scene[y : y + height, x : x + width].copy()
            pixels[: height // CORNER, : width // CORNER] = clips.picture(number, width // CORNER, height // CORNER)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    aside.rename(path)


def _scene(chance: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Soft patches of colour at several scales, and grain."""
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        patches = chance.normal(0, 40, (cells, cells, 3)).astype(np.float32)
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        total += patches[rows][:, columns]
    return np.clip(128 + total + chance.normal(0, 4, total.shape), 0, 255).astype(np.uint8)


# --- what is measured ------------------------------------------------------------------------------------------------


def speed(loaders: list[Loader], files: dict[str, Path], counts: list[int], repeats: int) -> Iterator[dict[str, Any]]:
    """Every loader on every file: all of them once, then all of them again."""
    warm = str(next(iter(files.values())))
    for (name, path), count in itertools.product(files.items(), counts):
        found: dict[str, list[dict[str, Any]]] = {loader.name: [] for loader in loaders}
        for repeat in range(repeats + 1):
            for loader in loaders[repeat % len(loaders) :] + loaders[: repeat % len(loaders)]:
                answer = loader.ask(path=str(path), count=count, warm=warm, corner=CORNER, limit=600)
                if repeat:
                    found[loader.name].append(answer)
        wanted = middles(_length(path), count)
        for loader in loaders:
            yield {"file": name, "frames": count, "loader": loader.name, **_row(found, loader.name, wanted)}
            print(".", end="", file=sys.stderr, flush=True)


def _length(path: Path) -> int:
    return len(pyav.table_of(str(path), Request()))


def _row(found: dict[str, list[dict[str, Any]]], name: str, wanted: list[int]) -> dict[str, Any]:
    answers = found[name]
    if failed := next((answer for answer in answers if "numbers" not in answer), None):
        return failed
    walls = [answer["wall_s"] for answer in answers]
    row: dict[str, Any] = {key: statistics.median(a[key] for a in answers) for key in ("wall_s", "cpu_s", "peak_mb")}
    row |= {"fps": len(wanted) / row["wall_s"], "wall_interval": interval(walls), "walls": walls}
    row["right"] = statistics.mean(right(answer["numbers"], wanted) for answer in answers)
    if all("wall_s" in answer for answer in found["decord"]):
        theirs = [answer["wall_s"] for answer in found["decord"]]
        ratios = [a / b for a, b in zip(walls, theirs, strict=True)]  # neighbours in time: load on the machine cancels
        row |= {"to_decord": statistics.median(ratios), "to_decord_interval": interval(ratios)}
        row["memory_to_decord"] = row["peak_mb"] / statistics.median(a["peak_mb"] for a in found["decord"])
    return row


def right(got: list[int | None], wanted: list[int]) -> float:
    """The share of wanted frames that came, to one frame."""
    if len(got) != len(wanted):
        return sum(any(g is not None and abs(g - w) <= 1 for g in got) for w in wanted) / len(wanted)
    return sum(g is not None and abs(g - w) <= 1 for g, w in zip(got, wanted, strict=True)) / len(wanted)


def interval(values: list[float], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    chance = np.random.default_rng(0)
    medians = np.median(chance.choice(values, (draws, len(values))), axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def rightness(loaders: list[Loader], folder: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """Sixteen frames of every kind of clip, in the middle of equal shares of the time."""
    folder.mkdir(exist_ok=True)
    kinds: list[tuple[str, Any]] = [("ordinary", recipe) for recipe in clips.ORDINARY]
    kinds += [("awkward", recipe) for recipe in (*awkward.PLAIN, *awkward.SPECIAL)]
    for kind, recipe in kinds[:: 4 if quick else 1]:
        path, recipe = recipe(folder) if callable(recipe) else (clips.make(recipe, folder), recipe)
        for loader in loaders:
            answer = loader.ask(path=str(path), count=16, warm=str(path), corner=1)
            outcome = "error"
            if "numbers" in answer:
                outcome = "right" if right(answer["numbers"], recipe.wanted(16)) == 1 else "wrong"
            yield {
                **{"kind": kind, "clip": path.name, "loader": loader.name, "outcome": outcome},
                **{key: answer[key] for key in ("numbers", "error") if key in answer and outcome != "right"},
            }


# --- what is written -------------------------------------------------------------------------------------------------


COLUMNS = (
    *("file", "frames", "loader", "wall s", "frames/s", "CPU s", "peak MB"),
    *("right", "time to decord's", "memory to decord's"),
)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + f". Medians of {result['repeats']} loads; in brackets the 95 % bootstrap interval.\n",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    lines += [_speed_line(row) for row in result["speed"]]
    lines += ["\n| loader | ordinary: right / wrong / error | awkward: right / wrong / error |", "|---|---|---|"]
    for loader in dict.fromkeys(row["loader"] for row in result["rightness"]):
        cells = [_outcomes(result["rightness"], loader, kind) for kind in ("ordinary", "awkward")]
        lines.append(f"| {loader} | {cells[0]} | {cells[1]} |")
    missing = [f"\n{name} is not in the tables: {why}" for name, why in result["missing"].items()]
    return "\n".join([*lines, *missing]) + "\n"


def _speed_line(row: dict[str, Any]) -> str:
    start = f"| {row['file']} | {row['frames']} | {row['loader']} |"
    if "wall_s" not in row:
        return f"{start} {row.get('error', '')} | | | | | | |"
    low, high = row["wall_interval"]
    ratio = memory = ""
    if "to_decord" in row:
        ratio = "{:.2f} [{:.2f}, {:.2f}]".format(row["to_decord"], *row["to_decord_interval"])
        memory = f"{row['memory_to_decord']:.2f}"
    return (
        f"{start} {row['wall_s']:.2f} [{low:.2f}, {high:.2f}] | {row['fps']:.1f} | {row['cpu_s']:.2f} "
        f"| {row['peak_mb']:.0f} | {row['right']:.2f} | {ratio} | {memory} |"
    )


def _outcomes(rows: list[dict[str, Any]], loader: str, kind: str) -> str:
    found = [row["outcome"] for row in rows if row["loader"] == loader and row["kind"] == kind]
    return " / ".join(str(found.count(outcome)) for outcome in ("right", "wrong", "error"))


def broken(result: dict[str, Any]) -> list[str]:
    """What misses the bar: not slower than decord on any file, at 64 frames of 1080p at most .55 of its memory."""
    rows = [row for row in result["speed"] if row["loader"] == "ours, isolated"]
    cases = [(f"{row['file']}, {row['frames']} frames", row) for row in rows]
    found = [f"{name}: {row.get('error', 'no figures')}" for name, row in cases if "wall_s" not in row]
    measured = [(name, row) for name, row in cases if "to_decord" in row]
    found += [f"{name}: {row['to_decord']:.2f} of decord's time" for name, row in measured if row["to_decord"] > 1]
    return found + [
        f"{name}: {row['memory_to_decord']:.2f} of decord's memory"
        for name, row in measured
        if row["file"].startswith("1080p") and row["frames"] == 64 and row["memory_to_decord"] > 0.55
    ]


def measured(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures of a run."""
    files = {}
    for name, shape in (QUICK if asked.quick else FILES).items():
        files[name] = folder / ("-".join(map(str, shape)) + ".mp4")
        if not files[name].exists():
            make(files[name], *shape)
    first = str(next(iter(files.values())))
    loaders, missing = [Loader(name) for name in LOADERS], {}
    for loader in list(loaders):
        if why := loader.ask(path=first, count=2, warm=first, corner=CORNER, limit=300).get("missing"):
            missing[loader.name] = why
            loaders.remove(loader)
    counts = [8, 64] if asked.quick else [8, 16, 32, 64]
    try:
        rows = list(speed(loaders, files, counts, asked.repeats))
        outcomes = list(rightness(loaders, folder / "kinds", asked.quick))
    finally:
        for loader in loaders:
            loader.close()
    return {
        "command": " ".join(["python benchmarks/media.py", *["--quick"] * asked.quick]),
        "machine": f"{THREADS} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: _version(name) for name in PACKAGES},
        "repeats": asked.repeats,
        "missing": missing,
        "speed": rows,
        "rightness": outcomes,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def main() -> int:
    """Measure, write, print; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="shorter files, 8 and 64 frames, a quarter of the kinds")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where clips are made and kept; a temporary folder")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = measured(asked, folder)
    (asked.out / "media.json").write_text(json.dumps(result, indent=1) + "\n")
    (asked.out / "media.md").write_text(f"# Loaders of clips, side by side\n\n{table(result)}")
    print(table(result))
    misses = broken(result)
    print("\n".join(["The bar is missed:", *misses]) if misses else "The bar is kept.")
    return int(bool(misses))


if __name__ == "__main__":
    sys.exit(main())
