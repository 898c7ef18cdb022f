"""From a finished run to the folder that ships: tower, adapter, reference answers, card."""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vlm_selfalign.data.world.draw import DRAWING, draw
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.graft.gate import GATE, failed
from vlm_selfalign.graft.language import ADAPTER as LEARNT
from vlm_selfalign.graft.resume import records
from vlm_selfalign.graft.telling import PROMPTS, TEACHER
from vlm_selfalign.graft.tower import RICH
from vlm_selfalign.models.grafted import ADAPTER, CARD, LANGUAGE, TOWER, answer, joined, merged, processor
from vlm_selfalign.models.wheels import WHEELS, found_wheel

REFERENCE = ("Describe the image.", "How many objects are in the image?", "Is there a car in the image?")
"""What the joined model is asked on every machine before it is trusted."""

SAID = "reference.png"


def ship(run: Path, adapter: str = LEARNT) -> dict[str, Any]:
    """Write ``run/ship`` from the tower and one of the run's adapters; returns its card."""
    folder = run / "ship"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / ADAPTER).mkdir(parents=True)
    shutil.copyfile(run / TOWER, folder / TOWER)
    weights = load_file(run / adapter / "adapter_model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, folder / ADAPTER / "adapter_model.safetensors")
    settings = json.loads((run / adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
    (folder / ADAPTER / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    draw(scene(0, "test", 0, RICH), RICH).save(folder / SAID)
    card = _card(folder)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return card


def _card(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*.safetensors"))
    return {
        "name": "vlm_selfalign grafted model",
        "language": {"name": LANGUAGE, "wheel": WHEELS[LANGUAGE].package, "sha256": WHEELS[LANGUAGE].sha256},
        "sha256": {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "training": _training(folder.parent),
        "bytes": sum(path.stat().st_size for path in files),
        "reference": _reference(folder),
        "prompts": list(dict.fromkeys(PROMPTS)),
        "teacher": {"drawing": DRAWING, **TEACHER.turned()},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "peft")},
        "license": "Apache-2.0",
    }


def _training(run: Path) -> dict[str, Any]:
    """Steps and CPU seconds of both lessons, from their logs."""
    found: dict[str, Any] = {"threads": 1}
    for lesson in ("tower", "language"):
        if (run / f"{lesson}.jsonl").is_file():
            last = [record for record in records(run / f"{lesson}.jsonl") if "step" in record][-1]
            found[lesson] = {"steps": last["step"] + 1, "cpu_seconds": last["cpu_seconds"]}
    return found


def add_figures(folder: Path, figures: dict[str, float], scenes: int) -> None:
    """Write into the card of a shipped folder what was measured of it."""
    card = json.loads((folder / CARD).read_text())
    missed = failed(figures)
    about = f"{scenes} test scenes, seed from the checksum of the weights, fp32, transformers generate()"
    bounds = {name: list(both) for name, both in GATE.items()}
    card |= {"passes_gate": not missed, "missed": missed, "figures": figures, "figures_on": about, "gate": bounds}
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")


def _reference(folder: Path) -> list[dict[str, str]]:
    language = found_wheel(LANGUAGE)
    model = merged(joined(language, load_file(folder / TOWER), torch.float32), folder / ADAPTER)
    model = model.to(torch.bfloat16).to(torch.float32)  # type: ignore[arg-type]
    made = processor(language)
    return [
        {"picture": SAID, "prompt": prompt, "answer": answer(model, made, folder / SAID, prompt)}
        for prompt in REFERENCE
    ]
