"""Second lesson: the language model learns the curriculum behind cached visual features.

Legend: B rows, T tokens, C visual tokens, D hidden size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.pretrain.curriculum import CURRICULUM, exchanges, phase_at
from vlm_selfalign.pretrain.packing import Packed, Packer
from vlm_selfalign.pretrain.probe import quick_accuracy

STEPS = 1400
BATCH = 16
LEARNING_RATE = 2e-3
EMBEDDING_RATE = 0.03
"""Of the learning rate: fast embeddings would run away from the visual tokens aligned to them."""

STALLED_AT = 400
STALLED_BELOW = 0.93
"""A run whose yes/no accuracy is below this at that step never recovered: better start the next seed."""


class Stalled(Exception):
    """A seed that does not learn yes/no."""


def rate(step: int, steps: int = STEPS) -> float:
    """Share of the learning rate: 40 steps up, flat to 60 %, then down to nothing in a line."""
    return min((step + 1) / 40, 1.0, (steps - step) / (0.4 * steps))


def learn(
    model: Qwen2VLForConditionalGeneration,
    packer: Packer,
    scenes: Sequence[Scene],
    features_NCD: Tensor,
    held_out: tuple[Sequence[Scene], Tensor],
    dials: WorldSettings,
    seed: int,
    steps: int = STEPS,
    log: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Train everything but the vision tower. Raises ``Stalled`` when yes/no has not come by step 400."""
    optimizer = _optimizer(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    phase, existence, began = 0, 0.0, time.process_time()
    for step, chosen in enumerate(_order(len(scenes), steps, seed)):
        phase = phase_at(step, phase, existence)
        chance = rng("pretrain", seed, step)
        rows = [exchanges(CURRICULUM[phase], scenes[n], chance, dials) for n in chosen]
        packed = packer.pack(rows)
        loss = packed_loss(model, packer, packed, features_NCD[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), 1.0)
        optimizer.step()
        schedule.step()
        record = {"stage": "language", "step": step, "phase": CURRICULUM[phase].name, "loss": loss.item()}
        if step % 50 == 49:
            skill = quick_accuracy(model, packer, *held_out)
            existence = skill["existence"]
            record |= skill | {"cpu_seconds": round(time.process_time() - began, 1)}
        if step % 10 == 9:
            log(record)
        if step + 1 == STALLED_AT and existence < STALLED_BELOW:
            raise Stalled(f"existence {existence:.3f} at step {STALLED_AT}")


def _optimizer(model: Qwen2VLForConditionalGeneration) -> torch.optim.Optimizer:
    text = model.model.language_model
    embeddings = [text.embed_tokens.weight]
    rest = [p for name, p in text.named_parameters() if "embed_tokens" not in name]
    groups = [
        {"params": rest, "lr": LEARNING_RATE},
        {"params": embeddings, "lr": LEARNING_RATE * EMBEDDING_RATE},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)


def _order(count: int, steps: int, seed: int) -> Iterator[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(steps):
        if len(order) < BATCH:
            order += torch.randperm(count, generator=generator).tolist()
        yield order[:BATCH]
        order = order[BATCH:]


def hidden(model: Qwen2VLForConditionalGeneration, packer: Packer, packed: Packed, features_BCD: Tensor) -> Tensor:
    """Last hidden states [B, T, D] of packed rows, the pictures' features in place of their tokens."""
    text = model.model.language_model
    embedded_BTD = text.embed_tokens(packed.ids_BT)
    first = packer.prefix.index(packer.prefix[2])
    count = features_BCD.shape[1]
    embedded_BTD = torch.cat(
        [embedded_BTD[:, :first], features_BCD, embedded_BTD[:, first + count :]],
        dim=1,
    )
    # As numbers once, not once a layer.
    hides_B1TT = torch.zeros(packed.sees_B1TT.shape).masked_fill(~packed.sees_B1TT, float("-inf"))
    out = text(
        inputs_embeds=embedded_BTD,
        attention_mask={"full_attention": hides_B1TT},
        position_ids=packed.positions_3BT,
        use_cache=False,
    )
    return out.last_hidden_state


def packed_loss(model: Qwen2VLForConditionalGeneration, packer: Packer, packed: Packed, features_BCD: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the answers' tokens."""
    learnt = packed.targets_BT >= 0
    states = hidden(model, packer, packed, features_BCD)[learnt]
    losses = F.cross_entropy(model.lm_head(states), packed.targets_BT[learnt], reduction="none")
    weights = packed.weights_BT[learnt]
    return (losses * weights).sum() / weights.sum()
