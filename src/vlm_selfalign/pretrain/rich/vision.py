"""First lesson of the second edition: what each visual token holds, of pictures and of pairs of a clip's frames.

A token of a clip holds, beside kind and colour, what happens there between the two frames: the words for a direction,
an appearance, a vanishing, a touch. So "which way does the boat move" is read as "what colour is the boat".
Legend: N pictures or slots, P patches, V values of a patch, C cells (visual tokens), D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration

from vlm_selfalign.data.world.clips.draw import Track, draw_story
from vlm_selfalign.data.world.clips.stories import Story
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS
from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.muon import Muon
from vlm_selfalign.pretrain.rich.items import CLIP_DIALS, DIALS, SLOTS, Item
from vlm_selfalign.pretrain.vision import SHARPNESS, encode

STEPS = 1000
BATCHES = (32, 16)
"""Pictures and slots of clips in a step: slots show nothing that is hard to see."""
MATRIX_RATE = 5e-3
RATE = 3e-3

HAPPENS = ("left", "right", "up", "down", "appears", "vanishes")
TOUCHES = "meets"
"""The word of who touches another one, whatever happens besides."""
CELLS = DIALS.cells**2
PARTS = 4
"""Kind, colour, happening, touch."""
TOUCHING = 0.85
"""Of a cell: nearer than that along both axes are only two who have met."""


@dataclass(frozen=True)
class Cells:
    """What every token holds: indices of kind, colour and happening, [N, C] each; -1 for none. ``touches``: 0 or -1."""

    kinds: Tensor
    colours: Tensor
    happens: Tensor
    touches: Tensor

    def __getitem__(self, chosen: Tensor) -> Cells:
        return Cells(self.kinds[chosen], self.colours[chosen], self.happens[chosen], self.touches[chosen])


def patches(frames_NTHW3: np.ndarray) -> Tensor:
    """Patches [N * slots, P, V] of uint8 frames [N, T, 64, 64, 3], as the processor makes them of unscaled pictures."""
    n, t = frames_NTHW3.shape[:2]
    grid = SIDE // PATCH
    x = torch.from_numpy(frames_NTHW3).float().div_(255).sub_(0.5).div_(0.25)
    x = x.view(n * t // 2, 2, grid // MERGE, MERGE, PATCH, grid // MERGE, MERGE, PATCH, 3)
    return x.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(n * t // 2, grid**2, -1)


def frames(items: Sequence[Item]) -> np.ndarray:
    """Pairs of frames, uint8 [N, 2, 64, 64, 3]: of a picture one, of a clip one for each slot."""
    drawn = [_drawn(one) for one in items]
    return np.concatenate(drawn).reshape(-1, 2, SIDE, SIDE, 3)


def _drawn(one: Item) -> np.ndarray:
    if isinstance(one.of, Story):
        return draw_story(one.of, CLIP_DIALS).frames
    still = np.asarray(draw(one.of, DIALS))
    return np.stack([still, still])  # a picture is a clip that stands still


def shown(items: Sequence[Item]) -> Tensor:
    """Patches of pictures [N, P, V], or of clips [N * slots, P, V]."""
    return patches(frames(items))


def cells(items: Sequence[Item]) -> Cells:
    """What the tokens of pictures or clips hold."""
    rows = [row for one in items for row in _rows(one.of)]
    return Cells(*torch.from_numpy(np.stack(rows)).unbind(1))


def _rows(of: Scene | Story) -> list[np.ndarray]:
    if isinstance(of, Story):
        return [_slot(of, slot) for slot in range(SLOTS)]
    row = np.full((PARTS, CELLS), -1)
    for thing in of.things:
        row[:2, thing.row * DIALS.cells + thing.col] = _names(thing.kind, thing.colour)
    return [row]


def _names(kind: str, colour: str) -> tuple[int, int]:
    return KINDS.index(kind), list(COLOURS).index(colour)


def _slot(story: Story, slot: int) -> np.ndarray:
    """The cells of two frames: an object is in the cell where the middle of its way is."""
    row = np.full((PARTS, CELLS), -1)
    times = [(2 * slot + i) / CLIP_DIALS.fps for i in range(2)]
    cell, side = CLIP_DIALS.world.cell, CLIP_DIALS.world.cells
    tracks = [Track(thing, story, cell) for thing in story.things]
    places = [[track.corner(time) for time in times] for track in tracks]
    seen = [[track.opacity(time) for time in times] for track in tracks]
    for i, thing in enumerate(story.things):
        if max(seen[i]) < 0.25:
            continue
        (x0, y0), (x1, y1) = places[i]
        col, line = round((x0 + x1) / 2 / cell), round((y0 + y1) / 2 / cell)
        touched = any(_touch(places[i][1], places[j][1], cell) for j in range(len(tracks)) if j != i and seen[j][1] > 0)
        happening = _happening((x1 - x0, y1 - y0), seen[i])
        row[:, line * side + col] = (*_names(thing.kind, thing.colour), happening, touched - 1)
    return row


def _touch(a: tuple[int, int], b: tuple[int, int], cell: int) -> bool:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) < TOUCHING * cell


def _happening(moved: tuple[int, int], seen: Sequence[float]) -> int:
    right, down = moved
    if right or down:
        sideways = abs(right) > abs(down)
        return HAPPENS.index(("left" if right < 0 else "right") if sideways else "up" if down < 0 else "down")
    if seen[0] != seen[1]:
        return HAPPENS.index("appears" if seen[1] > seen[0] else "vanishes")
    return -1


@dataclass(frozen=True)
class Words:
    """What visual tokens are aligned to: embeddings of kinds, colours, happenings, a touch, and of an empty cell."""

    kinds_KD: Tensor
    colours_KD: Tensor
    happens_KD: Tensor
    touches_D: Tensor
    nothing_D: Tensor

    @property
    def scale(self) -> Tensor:
        """Mean squared length of a kind's embedding."""
        return self.kinds_KD.pow(2).sum(-1).mean()


def align(
    model: Qwen2VLForConditionalGeneration,
    pictures: tuple[np.ndarray, Cells],
    slots: tuple[np.ndarray, Cells],
    words: Words,
    seed: int,
    log: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Train the vision tower alone, towards embeddings that stay as they are."""
    tower = list(model.model.visual.named_parameters())
    matrices = [p for name, p in tower if p.ndim == 2]
    rest = [p for name, p in tower if p.ndim != 2]
    optimizers = [Muon(matrices, lr=MATRIX_RATE), torch.optim.AdamW(rest, lr=RATE, weight_decay=0.0)]
    rates = [MATRIX_RATE, RATE]
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        losses, seen = [], {}
        for name, (pairs, truth), size in zip(("picture", "slot"), (pictures, slots), BATCHES, strict=True):
            chosen = torch.randint(len(pairs), (size,), generator=generator)
            out_NCD = encode(model, patches(pairs[chosen.numpy()]))
            losses.append(loss_of(out_NCD, truth[chosen], words))
            if step % 20 == 0 or step == STEPS - 1:
                seen |= {f"{name}_{key}": value for key, value in accuracy(out_NCD, truth[chosen], words).items()}
        loss = torch.stack(losses).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(rest, 1.0)
        share = min((step + 1) / 20, 1.0, 1.6 * (1 - step / STEPS))
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
        if seen:
            log({"stage": "vision", "step": step, "loss": loss.item(), **seen})


def loss_of(out_NCD: Tensor, truth: Cells, words: Words) -> Tensor:
    """Squared error to the sum of the embeddings (or to ``nothing``) plus cross-entropies over each part."""
    there = truth.kinds >= 0
    does = (truth.happens >= 0)[..., None] * words.happens_KD[truth.happens]
    does = does + (truth.touches >= 0)[..., None] * words.touches_D
    goal_NCD = torch.where(
        there[..., None], words.kinds_KD[truth.kinds] + words.colours_KD[truth.colours] + does, words.nothing_D
    )
    regression = (out_NCD - goal_NCD).pow(2).sum(-1).mean() / words.scale
    sharp_ND = out_NCD[there] * (SHARPNESS / words.scale)
    kind = F.cross_entropy(sharp_ND @ words.kinds_KD.T, truth.kinds[there])
    colour = F.cross_entropy(sharp_ND @ words.colours_KD.T, truth.colours[there])
    happens = F.cross_entropy(_happens(sharp_ND, words), truth.happens[there] + 1)
    touches = sharp_ND @ words.touches_D - SHARPNESS / 2
    touch = F.binary_cross_entropy_with_logits(touches, (truth.touches[there] >= 0).float())
    return 2 * regression + kind + colour + happens + touch


def _happens(sharp_ND: Tensor, words: Words) -> Tensor:
    """Logits of nothing, and of each happening."""
    return F.pad(sharp_ND @ words.happens_KD.T, (1, 0), value=SHARPNESS / 2)


@torch.no_grad()
def accuracy(out_NCD: Tensor, truth: Cells, words: Words) -> dict[str, float]:
    """How often each part's nearest word is the right one, and how often an empty cell is nearest to nothing."""
    there = truth.kinds >= 0
    sharp_ND = out_NCD[there] * (SHARPNESS / words.scale)
    named_KD = torch.cat([words.nothing_D[None], words.kinds_KD])
    hits = {
        "kind": (sharp_ND @ words.kinds_KD.T).argmax(-1) == truth.kinds[there],
        "colour": (sharp_ND @ words.colours_KD.T).argmax(-1) == truth.colours[there],
        "happens": _happens(sharp_ND, words).argmax(-1) == truth.happens[there] + 1,
        "touches": (sharp_ND @ words.touches_D > SHARPNESS / 2) == (truth.touches[there] >= 0),
        "empty": (out_NCD[~there] @ named_KD.T).argmax(-1) == 0,
    }
    return {name: round(right.float().mean().item(), 4) for name, right in hits.items()}


@torch.no_grad()
def cached(model: Qwen2VLForConditionalGeneration, pairs: np.ndarray, per_item: int) -> Tensor:
    """Visual tokens of every item, [items, tokens, D], in half precision: there are many."""
    parts = range(0, len(pairs), 400)
    done = torch.cat([encode(model, patches(pairs[start : start + 400])).bfloat16() for start in parts])
    return done.view(len(pairs) // per_item, -1, done.shape[-1])
