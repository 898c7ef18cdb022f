"""Second lesson: the language model learns the curriculum behind cached visual features.

Legend: N pictures, C visual tokens, D hidden size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Qwen2VLForConditionalGeneration

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.curriculum import CURRICULUM, exchanges, phase_at, system_turn
from vlm_selfalign.pretrain.forward import packed_loss
from vlm_selfalign.pretrain.muon import Muon
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.probe import quick_accuracy

STEPS = 700
BATCH = 16
MATRIX_RATE = 4e-3
"""Learning rate of matrices, under Muon."""
RATE = 2e-3
"""Of norms and biases, under AdamW."""
EMBEDDING_RATE = 6e-5
"""Of embeddings: fast ones would run away from the visual tokens aligned to them."""

STALLED_AT = 400
STALLED_BELOW = 0.93
"""A run whose yes/no accuracy is below this at that step never recovered: better start the next seed."""


class Stalled(Exception):
    """A seed that does not learn yes/no."""


def rate(step: int) -> float:
    """Share of the learning rate: 40 steps up, flat to 60 %, then down to nothing in a line."""
    return min((step + 1) / 40, 1.0, (STEPS - step) / (0.4 * STEPS))


@dataclass(frozen=True)
class Album:
    """Scenes and the visual features of their pictures, [N, C, D]."""

    scenes: Sequence[Scene]
    features_NCD: Tensor


def learn(
    model: Qwen2VLForConditionalGeneration,
    packer: Packer,
    train: Album,
    held_out: Album,
    dials: WorldSettings,
    seed: int,
    log: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Train everything but the vision tower. Raises ``Stalled`` when yes/no has not come by step 400."""
    optimizers = _optimizers(model)
    schedules = [LambdaLR(optimizer, rate) for optimizer in optimizers]
    phase, existence, began = 0, 0.0, time.process_time()
    for step, chosen in enumerate(_order(len(train.scenes), seed)):
        phase = phase_at(step, phase, existence)
        chance = rng("pretrain", seed, step)
        rows = [exchanges(CURRICULUM[phase], train.scenes[n], chance, dials) for n in chosen]
        packed = packer.pack(rows, [system_turn(chance) for _ in rows])
        loss = packed_loss(model, packer, packed, train.features_NCD[chosen])
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        record = {"stage": "language", "step": step, "phase": CURRICULUM[phase].name, "loss": loss.item()}
        if step % 50 == 49:
            skill = quick_accuracy(model, packer, held_out.scenes, held_out.features_NCD)
            existence = skill["existence"]
            record |= skill | {"cpu_seconds": round(time.process_time() - began, 1)}
        if step % 10 == 9:
            log(record)
        if step + 1 == STALLED_AT and existence < STALLED_BELOW:
            raise Stalled(f"existence {existence:.3f} at step {STALLED_AT}")


def _optimizers(model: Qwen2VLForConditionalGeneration) -> list[torch.optim.Optimizer]:
    text = model.model.language_model
    layers = [p for name, p in text.named_parameters() if "embed_tokens" not in name]
    matrices, vectors = [p for p in layers if p.ndim == 2], [p for p in layers if p.ndim == 1]
    groups = [{"params": vectors, "lr": RATE}, {"params": [text.embed_tokens.weight], "lr": EMBEDDING_RATE}]
    return [Muon(matrices, lr=MATRIX_RATE), torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)]


def _order(count: int, seed: int) -> Iterator[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(STEPS):
        if len(order) < BATCH:
            order += torch.randperm(count, generator=generator).tolist()
        yield order[:BATCH]
        order = order[BATCH:]
