"""What is known about a checkpoint, beside its weights: ``CARD.json`` and the training curves."""

from __future__ import annotations

import json
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from vlm_selfalign.data.world.draw import DRAWING
from vlm_selfalign.data.world.questions import COLOUR, COUNT, DESCRIBE, EXISTENCE
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.gate import GATE, WEIGHTS, failed, sha256

CARD = "CARD.json"
LOG = "log.jsonl"
CURVES = "curves.png"


def write_card(folder: Path, figures: dict[str, float], scenes: int, run: dict[str, Any]) -> dict[str, Any]:
    """Write and return the card: checksum, figures, gate, how it was trained and what it understands."""
    card = {
        "name": "vlm_selfalign embedded model",
        "weights": WEIGHTS,
        "sha256": sha256(folder),
        "passes_gate": not failed(figures),
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "figures_on": f"{scenes} test scenes, seed from the checksum, fp32, transformers generate()",
        "gate": {name: list(bounds) for name, bounds in GATE.items()},
        "training": run,
        "prompts": {"describe": DESCRIBE, "existence": list(EXISTENCE), "colour": COLOUR, "count": COUNT},
        "world": {"drawing": DRAWING, **WorldSettings().model_dump(mode="json")},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy", "pillow")},
        "license": "Apache-2.0",
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return card


def draw_curves(log: Path, picture: Path) -> None:
    """Loss and held-out accuracies of the last try in a log, as a PNG."""
    from matplotlib.figure import Figure

    records = [json.loads(line) for line in log.read_text().splitlines()]
    last = max((i for i, record in enumerate(records) if record["stage"] == "stalled"), default=-1)
    vision = [record for record in records[last + 1 :] if record["stage"] == "vision"]
    language = [record for record in records[last + 1 :] if record["stage"] == "language"]
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    first.set_title("Vision tower: cells read right (batch)")
    for name in ("kind", "colour", "empty"):
        first.plot([r["step"] for r in vision], [r[name] for r in vision], label=name)
    second.set_title("Language: loss")
    second.plot([r["step"] for r in language], [r["loss"] for r in language], linewidth=1)
    third.set_title("Language: accuracy on 200 held-out scenes")
    checked = [record for record in language if "existence" in record]
    for name in ("existence", "colour", "count"):
        third.plot([r["step"] for r in checked], [r[name] for r in checked], marker=".", label=name)
    for axis in (second, third):
        for before, after in pairwise(language):
            if before["phase"] != after["phase"]:
                axis.axvline(after["step"], color="grey", linestyle=":", linewidth=1)
                axis.annotate(after["phase"], (after["step"], axis.get_ylim()[1]), va="top", fontsize=8, color="grey")
    for axis in (first, second, third):
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
    first.legend(frameon=False)
    third.legend(frameon=False)
    figure.savefig(picture, dpi=110)
