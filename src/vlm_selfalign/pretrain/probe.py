"""Quick accuracy on held-out scenes while training: yes/no, colour and count, all in packed rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.forward import hidden
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.tasks import Branch, task

ASKED = {"existence": 6, "colour": 2, "count": 1}


@torch.no_grad()
def quick_accuracy(
    model: Qwen2VLForConditionalGeneration, packer: Packer, scenes: Sequence[Scene], features_NCD: Tensor
) -> dict[str, float]:
    """Share of questions whose likeliest first token is right, by task."""
    asked = [_questions(scene, number) for number, scene in enumerate(scenes)]
    right: dict[str, list[bool]] = {name: [] for name in ASKED}
    for start in range(0, len(scenes), 50):
        here = slice(start, start + 50)
        packed = packer.pack([[branch for _, branch in row] for row in asked[here]])
        first = packed.targets_BT.ge(0) & packed.ids_BT.eq(packer.assistant)
        states = hidden(model, packer, packed, features_NCD[here])[first]
        hits = model.lm_head(states).argmax(-1) == packed.targets_BT[first]
        names = [name for row in asked[here] for name, _ in row]
        for name, hit in zip(names, hits.tolist(), strict=True):
            right[name].append(hit)
    return {name: round(sum(hits) / len(hits), 4) for name, hits in right.items()}


def _questions(scene: Scene, number: int) -> list[tuple[str, Branch]]:
    chance = rng("quick", number)
    return [
        (name, branch)
        for name, count in ASKED.items()
        for branch in task(name).branches(scene, chance, count, WorldSettings())
    ]
