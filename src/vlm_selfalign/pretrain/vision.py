"""First lesson: every visual token becomes the sum of the embeddings of what its cell holds.

Legend: N pictures, P patches, C cells (visual tokens), D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings

STEPS = 330
BATCH = 24
LEARNING_RATE = 3e-3
SHARPNESS = 10.0
"""Logit of a perfect match, before the softmax over kinds (or colours)."""


def pixels(scenes: Sequence[Scene], processor: Qwen2VLProcessor, dials: WorldSettings) -> Tensor:
    """The patches of every scene's picture, [N, P, values], as the processor makes them."""
    done = []
    for start in range(0, len(scenes), 500):
        pictures = [draw(scene, dials) for scene in scenes[start : start + 500]]
        values: Tensor = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        done.append(values.view(len(pictures), -1, values.shape[-1]))
    return torch.cat(done)


def encode(model: Qwen2VLForConditionalGeneration, patches_NPV: Tensor) -> Tensor:
    """Visual tokens [N, C, D]: what ``model.model.visual`` gives, for pictures of one size at once.

    The patch convolution becomes a product and attention one batch; both are exact, and several times faster on
    a CPU than a Conv3d and a loop over pictures.
    """
    visual: Any = model.model.visual
    heads = visual.blocks[0].attn.num_heads
    side = int(patches_NPV.shape[1] ** 0.5)
    cos, sin = visual.rotary_pos_emb(patches_NPV, _patch_positions(side, visual.spatial_merge_size))
    x_NPE = patches_NPV @ visual.patch_embed.proj.weight.flatten(1).T
    for block in visual.blocks:
        qkv = block.attn.qkv(block.norm1(x_NPE)).unflatten(-1, (3, heads, -1))
        q, k = apply_rotary_pos_emb_vision(qkv[:, :, 0], qkv[:, :, 1], cos, sin)
        q, k, v = (part.transpose(1, 2) for part in (q, k, qkv[:, :, 2]))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x_NPE = x_NPE + block.attn.proj(seen)
        x_NPE = x_NPE + block.mlp(block.norm2(x_NPE))
    return visual.merger(x_NPE).view(len(patches_NPV), -1, visual.merger.mlp[-1].out_features)


def _patch_positions(side: int, merge: int) -> Tensor:
    """Row and column of each patch, [P, 2], merged patches next to each other as the processor lays them out."""
    order = torch.arange(side * side).view(side // merge, merge, side // merge, merge)
    order = order.permute(0, 2, 1, 3).flatten()
    return torch.stack([order // side, order % side], dim=-1)


def cells(scenes: Sequence[Scene], dials: WorldSettings) -> tuple[Tensor, Tensor]:
    """Index of the kind and colour in every cell, [N, C] each; -1 where a cell is empty."""
    kinds = np.full((len(scenes), dials.cells**2), -1)
    colours = kinds.copy()
    names = list(COLOURS)
    for n, scene in enumerate(scenes):
        for thing in scene.things:
            cell = thing.row * dials.cells + thing.col
            kinds[n, cell], colours[n, cell] = KINDS.index(thing.kind), names.index(thing.colour)
    return torch.from_numpy(kinds), torch.from_numpy(colours)


@dataclass(frozen=True)
class Words:
    """What visual tokens are aligned to: embeddings of all kinds and colours, and what stands for an empty cell."""

    kinds_KD: Tensor
    colours_KD: Tensor
    nothing_D: Tensor
    """Not zero: the model normalises its input, and would blow the noise of an empty cell up to a random word."""

    @property
    def scale(self) -> Tensor:
        """Mean squared length of a kind's embedding."""
        return self.kinds_KD.pow(2).sum(-1).mean()


def align(
    model: Qwen2VLForConditionalGeneration,
    patches_NPV: Tensor,
    truth: tuple[Tensor, Tensor],
    words: Words,
    generator: torch.Generator,
    log: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Train the vision tower alone, towards embeddings that stay as they are."""
    learnt = list(model.model.visual.parameters())
    optimizer = torch.optim.AdamW(learnt, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = LambdaLR(optimizer, lambda step: min((step + 1) / 20, 1.2 * (1 - step / STEPS), 1))
    for step, chosen in enumerate(_batches(len(patches_NPV), generator)):
        out_NCD = encode(model, patches_NPV[chosen])
        kinds, colours = truth[0][chosen], truth[1][chosen]
        loss = alignment_loss(out_NCD, kinds, colours, words)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == STEPS - 1:
            log({"stage": "vision", "step": step, "loss": loss.item(), **accuracy(out_NCD, kinds, colours, words)})


def alignment_loss(out_NCD: Tensor, kinds: Tensor, colours: Tensor, words: Words) -> Tensor:
    """Squared error to the sum of the embeddings (or to ``nothing``) plus both cross-entropies."""
    there = kinds >= 0
    goal_NCD = torch.where(there[..., None], words.kinds_KD[kinds] + words.colours_KD[colours], words.nothing_D)
    regression = (out_NCD - goal_NCD).pow(2).sum(-1).mean() / words.scale
    sharp_ND = out_NCD[there] * (SHARPNESS / words.scale)
    kind = F.cross_entropy(sharp_ND @ words.kinds_KD.T, kinds[there])
    colour = F.cross_entropy(sharp_ND @ words.colours_KD.T, colours[there])
    return regression + kind + colour


@torch.no_grad()
def accuracy(out_NCD: Tensor, kinds: Tensor, colours: Tensor, words: Words) -> dict[str, float]:
    """How often the nearest word is the right one, and how often an empty cell is nearest to nothing."""
    there = kinds >= 0
    kind = (out_NCD[there] @ words.kinds_KD.T).argmax(-1) == kinds[there]
    colour = (out_NCD[there] @ words.colours_KD.T).argmax(-1) == colours[there]
    named_KD = torch.cat([words.nothing_D[None], words.kinds_KD])
    empty = (out_NCD[~there] @ named_KD.T).argmax(-1) == 0
    return {name: hits.float().mean().item() for name, hits in [("kind", kind), ("colour", colour), ("empty", empty)]}


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.empty(0, dtype=torch.long)
    for _ in range(STEPS):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:BATCH]
        order = order[BATCH:]
