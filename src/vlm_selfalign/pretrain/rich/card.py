"""What is known about a checkpoint of the second edition, beside its weights: card and training curves."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vlm_selfalign.data.world.clips.draw import DRAWING as CLIP_DRAWING
from vlm_selfalign.data.world.draw import DRAWING
from vlm_selfalign.pretrain.card import CARD
from vlm_selfalign.pretrain.gate import WEIGHTS, sha256
from vlm_selfalign.pretrain.rich.gate import GATE, failed
from vlm_selfalign.pretrain.rich.items import CLIP_DIALS, DIALS
from vlm_selfalign.pretrain.rich.tasks.ask import ASK
from vlm_selfalign.pretrain.rich.tasks.describe import DESCRIBE

WATCHED = (
    ("picture", ("exists", "colour", "count", "position", "relation")),
    ("clip", ("exists", "event", "direction", "order", "who_first")),
    ("text", ("exists", "colour", "relation", "order", "arithmetic")),
)


def write_card(folder: Path, figures: dict[str, float], items: int, run: dict[str, Any]) -> dict[str, Any]:
    """Write and return the card: checksum, figures, gate, how it was trained and what it understands."""
    card = {
        "name": "vlm_selfalign embedded model, second edition",
        "weights": WEIGHTS,
        "sha256": sha256(folder),
        "passes_gate": not failed(figures),
        "misses": failed(figures),
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "figures_on": f"{items} test items of each medium, seed from the checksum, fp32, transformers generate()",
        "gate": {name: list(bounds) for name, bounds in GATE.items()},
        "training": run,
        "prompts": {"describe": DESCRIBE, "ask": ASK},
        "world": {"drawing": DRAWING, **DIALS.turned()},
        "clips": {"drawing": CLIP_DRAWING, **CLIP_DIALS.turned()},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy", "pillow")},
        "license": "Apache-2.0",
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return card


def draw_curves(log: Path, picture: Path) -> None:
    """Losses, and held-out accuracies by medium, as a PNG."""
    from matplotlib.figure import Figure

    records = [json.loads(line) for line in log.read_text().splitlines()]
    vision = [record for record in records if record["stage"] == "vision"]
    language = [record for record in records if record["stage"] == "language"]
    figure = Figure(figsize=(15, 3.4), layout="constrained")
    first, second, *rest = figure.subplots(1, 5)
    first.set_title("Vision tower: read right (batch)")
    for name in ("picture_kind", "picture_colour", "slot_kind", "slot_happens"):
        first.plot([r["step"] for r in vision], [r[name] for r in vision], label=name, linewidth=1)
    second.set_title("Language: loss")
    for (medium, tasks), axis in zip(WATCHED, rest, strict=True):
        second.plot([r["step"] for r in language], [r[medium] for r in language], label=medium, linewidth=1)
        axis.set_title(f"{medium}: held-out accuracy")
        for task in tasks:
            seen = [(r["step"], r[f"{medium}_{task}"]) for r in language if f"{medium}_{task}" in r]
            axis.plot([step for step, _ in seen], [value for _, value in seen], marker=".", label=task)
    for axis in (first, second, *rest):
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7)
    figure.savefig(picture, dpi=110)
