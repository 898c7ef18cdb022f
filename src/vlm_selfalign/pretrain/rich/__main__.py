"""``python -m vlm_selfalign.pretrain.rich --out DIR [--seed 0]``: the second edition from nothing, in one clean run.

Interrupted, the same command goes on; ``--fresh`` begins anew. ``--measure dev`` only measures what is in the folder,
on items that may be looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vlm_selfalign.pretrain.card import CURVES, LOG
from vlm_selfalign.pretrain.rich.card import draw_curves, write_card
from vlm_selfalign.pretrain.rich.gate import failed, measure
from vlm_selfalign.pretrain.rich.lessons import LANGUAGE, VISION, Size, teach


def main() -> None:
    """Teach and save, measure against the gate, draw the curves, write the card."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.fresh:
        for name in (VISION, LANGUAGE, LOG):
            (given.out / name).unlink(missing_ok=True)
    if given.measure == "dev":
        measure(given.out, given.items, "dev", _say)
        return
    run = _train(given)
    draw_curves(given.out / LOG, given.out / CURVES)
    figures = measure(given.out, given.items, say=_say)
    write_card(given.out, figures, given.items, run)
    print("; ".join(failed(figures)) or f"the gate is passed: {given.out}")  # noqa: T201
    raise SystemExit(1 if failed(figures) else 0)


def _say(figures: dict[str, float]) -> None:
    for name, value in figures.items():
        print(f"{name:32s} {value:.4f}", flush=True)  # noqa: T201


def _train(given: argparse.Namespace) -> dict[str, Any]:
    began, size = time.monotonic(), Size(pictures=given.pictures, clips=given.clips, steps=given.steps)
    with (given.out / LOG).open("a") as file:

        def log(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        model, processor = teach(given.seed, given.out, log, size)
        run = {"seed": given.seed, **asdict(size), "threads": torch.get_num_threads()}
        log({"stage": "done", **run, "wall_seconds": round(time.monotonic() - began, 1)})
    model.to(torch.bfloat16).save_pretrained(given.out)  # type: ignore[arg-type]
    processor.save_pretrained(given.out)
    return run | {"cpu_seconds": _spent(given.out / LOG)}


def _spent(log: Path) -> float:
    """CPU seconds of all parts of a run, however often it was interrupted."""
    spent: dict[str, float] = {}
    for record in map(json.loads, log.read_text().splitlines()):
        if "cpu_seconds" in record:
            spent[record["stage"]] = record["cpu_seconds"]
    return round(sum(spent.values()), 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vlm_selfalign.pretrain.rich", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint, its card, log and curves")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1; more changes the rounding)")
    parser.add_argument("--pictures", type=int, default=Size.pictures, help="pictures to learn from")
    parser.add_argument("--clips", type=int, default=Size.clips, help="clips to learn from")
    parser.add_argument("--steps", type=int, default=Size.steps, help="steps of the language lesson")
    parser.add_argument("--items", type=int, default=500, help="items of each medium to measure on (default 500)")
    parser.add_argument("--fresh", action="store_true", help="forget an unfinished run in the folder")
    parser.add_argument("--measure", choices=["dev"], help="measure only, on dev items")
    return parser.parse_args()


if __name__ == "__main__":
    main()
