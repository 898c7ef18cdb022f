"""``python -m vlm_selfalign.pretrain --out DIR [--seed 0]``: the embedded model from nothing, in one clean run."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vlm_selfalign.pretrain.card import CURVES, LOG, draw_curves, write_card
from vlm_selfalign.pretrain.curriculum import CURRICULUM
from vlm_selfalign.pretrain.gate import failed, measure
from vlm_selfalign.pretrain.language import BATCH, STEPS
from vlm_selfalign.pretrain.lessons import PICTURES, teach
from vlm_selfalign.pretrain.samples import draw_samples


def main() -> None:
    """Teach, save, measure against the gate, draw the curves, write the card."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    run = _train(given.out, given.seed)
    draw_curves(given.out / LOG, given.out / CURVES)
    print(f"trained in {run['cpu_seconds']} CPU seconds; measuring {given.scenes} fresh scenes")  # noqa: T201
    figures = measure(given.out, given.scenes)
    draw_samples(given.out, given.out / "samples.png")
    write_card(given.out, figures, given.scenes, run)
    for name, value in figures.items():
        print(f"{name:28s} {value:.4f}")  # noqa: T201
    print("; ".join(failed(figures)) or f"the gate is passed: {given.out}")  # noqa: T201
    raise SystemExit(1 if failed(figures) else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vlm_selfalign.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint, its card, log and curves")
    parser.add_argument("--seed", type=int, default=0, help="first seed to try (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1; more changes the rounding)")
    parser.add_argument("--scenes", type=int, default=500, help="test scenes to measure on (default 500)")
    return parser.parse_args()


def _train(out: Path, seed: int) -> dict[str, Any]:
    began, began_cpu = time.monotonic(), time.process_time()
    with (out / LOG).open("w") as file, tqdm(total=STEPS, unit="step") as bar:

        def log(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()
            if record["stage"] == "language":
                bar.update(record["step"] + 1 - bar.n)
                bar.set_postfix({name: record[name] for name in ("phase", "existence") if name in record})

        model, processor, used = teach(seed, log)
        run = {
            "seed": used,
            "first_seed": seed,
            "pictures": PICTURES,
            "steps": STEPS,
            "batch": BATCH,
            "curriculum": [{"phase": phase.name, **phase.mixture} for phase in CURRICULUM],
            "threads": torch.get_num_threads(),
            "cpu_seconds": round(time.process_time() - began_cpu, 1),
            "wall_seconds": round(time.monotonic() - began, 1),
        }
        log({"stage": "done", **run})
    model.to(torch.bfloat16).save_pretrained(out)  # type: ignore[arg-type]
    processor.save_pretrained(out)
    return run


if __name__ == "__main__":
    main()
