"""What the tiny open_clip model must be able to do, measured on fresh pictures through open_clip's own loading."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.settings import COLOURS, KINDS
from vlm_selfalign.graft.clip.architecture import WEIGHTS
from vlm_selfalign.graft.clip.shown import Shown, frame, shown, texts_of

GATE = {
    "picture_kind": 0.95,
    "picture_colour": 0.95,
    "picture_auc": 0.95,
    "frame_kind": 0.95,
    "frame_colour": 0.95,
    "frame_auc": 0.95,
}
"""Least that each figure may be."""


def failed(figures: dict[str, float]) -> list[str]:
    """Which figures miss the gate, in words."""
    return [f"{name} is {figures[name]:.3f}, below {least}" for name, least in GATE.items() if figures[name] < least]


def checksum(folder: Path) -> str:
    """SHA-256 of the weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def add_card(folder: Path, figures: dict[str, float], count: int, training: dict[str, Any]) -> None:
    """``CARD.json``: what the model in the folder is, what it can do, how it was made."""
    missed = failed(figures)
    card = {
        "name": "vlm_selfalign tiny open_clip model",
        "weights": WEIGHTS,
        "sha256": checksum(folder),
        "passes_gate": not missed,
        "missed": missed,
        "figures": figures,
        "figures_on": f"{count} test pictures and as many frames of clips, seed from the checksum of the weights",
        "gate": GATE,
        "training": training,
        "versions": {name: version(name) for name in ("torch", "open_clip_torch", "transformers", "tokenizers")},
        "license": "Apache-2.0",
    }
    (folder / "CARD.json").write_text(json.dumps(card, indent=2) + "\n")


class Subject:
    """A model as anybody would load it."""

    def __init__(self, folder: Path) -> None:
        name = f"local-dir:{folder}"
        loaded: Any = open_clip.create_model_from_pretrained(name)
        self.model, self.preprocess = loaded[0].eval(), loaded[1]
        self.tokenizer = open_clip.get_tokenizer(name)

    @torch.no_grad()
    def pictures(self, album: Sequence[Shown]) -> Tensor:
        """Unit features [N, D]."""
        prepared: Any = [self.preprocess(Image.fromarray(one.pixels)) for one in album]
        return torch.cat(
            [
                self.model.encode_image(torch.stack(prepared[at : at + 50]), normalize=True)
                for at in range(0, len(prepared), 50)
            ]
        )

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit features [T, D]."""
        ids = self.tokenizer(list(texts))
        return torch.cat([self.model.encode_text(part, normalize=True) for part in ids.split(100)])


def measure(folder: Path, count: int = 500) -> dict[str, float]:
    """All figures on ``count`` fresh pictures and as many frames of clips, seed from the weights' checksum.

    ``kind`` and ``colour`` are zero-shot: of one that is there and all that are not, the likeliest must be the one
    that is there. ``auc``: how often a true caption scores higher than a caption with one word changed;
    ``auc_others`` with another picture's caption instead.
    """
    subject = Subject(folder)
    seed = int(checksum(folder)[:12], 16)
    figures: dict[str, float] = {}
    for name, draw in (("picture", shown), ("frame", frame)):
        picked = [index for index in range(3 * count) if index % 3 != 2][:count]
        album = [draw(index, "test", seed, hard=False) for index in picked]
        found = _zero_shot(subject, album, seed) | _captions(subject, album, seed)
        figures |= {f"{name}_{key}": round(value, 4) for key, value in found.items()}
    return figures


def _zero_shot(subject: Subject, album: Sequence[Shown], seed: int) -> dict[str, float]:
    pictures_ND = subject.pictures(album)
    kinds_KD = subject.texts([f"a picture of a {kind}" for kind in KINDS])
    right: dict[str, list[bool]] = {"kind": [], "colour": []}
    for index, one in enumerate(album):
        kind = rng("clip gate", seed, index).choice(list(one.there))
        rivals = [name for name in KINDS if name not in one.there]
        scores = pictures_ND[index] @ kinds_KD[[KINDS.index(name) for name in (kind, *rivals)]].T
        right["kind"].append(int(scores.argmax()) == 0)
        named = subject.texts([f"a {colour} {kind}" for colour in COLOURS])
        right["colour"].append(list(COLOURS)[int((pictures_ND[index] @ named.T).argmax())] == one.there[kind])
    return {name: float(np.mean(hits)) for name, hits in right.items()}


def _captions(subject: Subject, album: Sequence[Shown], seed: int) -> dict[str, float]:
    chance = random.Random(seed)
    pairs = [texts_of(one.there, chance, 0.8) for one in album]
    # a near miss that changes what its sentence does not say is true after all
    kept = [index for index, (_, wrong) in enumerate(pairs) if not wrong.holds(album[index].there)]
    pictures_ND = subject.pictures([album[index] for index in kept])
    true_ND, wrong_ND = (subject.texts([pairs[index][which].text for index in kept]) for which in (0, 1))
    own, near = ((pictures_ND * texts_ND).sum(-1) for texts_ND in (true_ND, wrong_ND))
    strange = torch.tensor([not pairs[kept[n - 1]][0].holds(album[index].there) for n, index in enumerate(kept)])
    other = (pictures_ND * true_ND.roll(1, 0)).sum(-1)[strange]
    return {"auc": auc(own, near), "auc_others": auc(own, other)}


def auc(positive: Tensor, negative: Tensor) -> float:
    """How often a positive scores higher than a negative; ties count half."""
    difference = positive[:, None] - negative[None, :]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())
