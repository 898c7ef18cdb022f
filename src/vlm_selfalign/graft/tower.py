"""First lesson of the grafted model: a vision tower that says what it sees in the language model's own words.

Each cell of the picture is four patches. Trained, the tower puts the embedding of a word in each of them: row and
column in the upper ones, colour and kind in the lower ones, a comma in all four where the cell is empty. How an object
is hard to see is added to the row's word.

Legend: N pictures, P patches, W words, D hidden size of the language model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.scenes import Scene, Split, scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.graft.resume import Log, Run, straight
from vlm_selfalign.models.grafted import PATCH, SIDE, VISION, tower_of
from vlm_selfalign.pretrain.muon import Muon

STEPS = 2400
BATCH = 32
MATRIX_RATE, RATE = 5e-3, 2e-3
"""Of matrices, under Muon, and of all else, under AdamW."""

PICTURES = 20000

EMPTY = ","
ROWS = ("top", "upper", "lower", "bottom")
COLUMNS = ("left", "second", "third", "right")
WORDS = (EMPTY, *ROWS, *COLUMNS, *COLOURS, *KINDS)
"""Each one token of the language model, a space before it (but for the comma)."""

FIRST = (WORDS.index(next(iter(COLOURS))), WORDS.index(KINDS[0]))
"""Where colours and kinds begin among them."""

HARD = {"small": "small", "faint": "faint", "occluded": "hidden"}
HARD_SHARE = 0.5
"""How much of a second word's embedding is added where an object is hard to see."""

BLANK_WEIGHT = 0.25
"""Most patches are empty: at full weight the tower is slow to see anything."""

PLAIN = WorldSettings.of(base="plain", fewest=1)
RICH = WorldSettings.of(base="rich", fewest=1)


@dataclass(frozen=True)
class Words:
    """Embeddings of ``WORDS`` and of what makes objects hard to see, as the language model has them."""

    known_WD: Tensor
    hard_HD: Tensor

    @classmethod
    def of(cls, table: Tensor, tokenizer: Any) -> Words:
        """From the language model's table of embeddings."""
        names = [word if word == EMPTY else "Ġ" + word for word in WORDS]
        hard = ["Ġ" + word for word in HARD.values()]
        rows = [table[tokenizer.convert_tokens_to_ids(some)].detach().float().clone() for some in (names, hard)]
        return cls(*rows)

    @property
    def variance(self) -> Tensor:
        """Mean squared distance of a word from the words' mean, over all dimensions: the loss's unit."""
        return (self.known_WD - self.known_WD.mean(0)).pow(2).sum(-1).mean()


@dataclass(frozen=True)
class Album:
    """Pictures, what each patch should say, and whether what is in it is hard to see."""

    scenes: list[Scene]
    pixels_NHW3: np.ndarray
    word_NP: Tensor
    hard_NPH: Tensor

    @classmethod
    def drawn(cls, split: Split, count: int, seed: int = 0) -> Album:
        """``count`` scenes of a split, one in four of the plain world."""
        dials = [PLAIN if index % 4 == 0 else RICH for index in range(count)]
        scenes = [scene(index, split, seed, dial) for index, dial in enumerate(dials)]
        pixels = np.stack([np.asarray(draw(one, dial)) for one, dial in zip(scenes, dials, strict=True)])
        said = [patches(one, dial) for one, dial in zip(scenes, dials, strict=True)]
        return cls(scenes, pixels, torch.stack([word for word, _ in said]), torch.stack([hard for _, hard in said]))


def patches(one: Scene, dials: WorldSettings) -> tuple[Tensor, Tensor]:
    """The word of every patch [P] and which ``HARD`` words are added [P, H], by the truth."""
    side = SIDE // PATCH
    word_P = torch.zeros(side * side, dtype=torch.long)
    hard_PH = torch.zeros(side * side, len(HARD))
    for item in truth(one, dials)["objects"]:
        row, col = item["row"], item["col"]
        corner = 2 * row * side + 2 * col
        said = (ROWS[row], COLUMNS[col], item["colour"], item["kind"])
        for offset, name in zip((0, 1, side, side + 1), said, strict=True):
            word_P[corner + offset] = WORDS.index(name)
        hard_PH[corner] = torch.tensor([float(why in item["hard"]) for why in HARD])
    return word_P, hard_PH


def pixel_values(pixels_NHW3: np.ndarray) -> Tensor:
    """What the processor gives for pictures of this size: [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(pixels_NHW3).permute(0, 3, 1, 2).float() / 127.5 - 1


def encode(model: Any, values_N3HW: Tensor) -> Tensor:
    """Visual tokens [N, P, D] of SmolVLM's tower and connector."""
    return model.model.connector(model.model.vision_model(values_N3HW).last_hidden_state)


class Probe(nn.Linear):
    """Kind and colour of a cell, read off each of its four patches below the connector; thrown away in the end.

    It is what makes the tower learn: of the four words of a cell only one each depends on kind and on colour.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, len(KINDS) + len(COLOURS))

    def loss(self, seen_NPE: Tensor, word_NP: Tensor) -> Tensor:
        """Cross-entropy over kinds and over colours, of patches in cells that are not empty."""
        side, cells = SIDE // PATCH, SIDE // PATCH // 2
        block = word_NP.view(-1, cells, 2, cells, 2)
        found = [block[:, :, 1, :, column].repeat_interleave(2, 1).repeat_interleave(2, 2) for column in (0, 1)]
        colour, kind = (words.reshape(-1, side * side) - first for words, first in zip(found, FIRST, strict=True))
        there = kind >= 0
        logits = self(seen_NPE[there])
        of_kinds, of_colours = logits[:, : len(KINDS)], logits[:, len(KINDS) :]
        return F.cross_entropy(of_kinds, kind[there]) + F.cross_entropy(of_colours, colour[there])


def align(
    model: Any, album: Album, words: Words, seed: int, log: Log, file: Path, steps: int = STEPS, until: float = math.inf
) -> bool:
    """Train tower and connector towards the words' embeddings, which stay as they are; whether it came to the end."""
    probe = Probe(VISION["hidden_size"])
    learnt = [*model.model.vision_model.parameters(), *model.model.connector.parameters(), *probe.parameters()]
    matrices, rest = ([p for p in learnt if (p.ndim == 2) is flat] for flat in (True, False))
    optimizers = [Muon(matrices, lr=MATRIX_RATE), torch.optim.AdamW(rest, lr=RATE, weight_decay=0.0)]

    def state() -> dict[str, Tensor]:
        return tower_of(model) | {f"probe.{name}": tensor for name, tensor in probe.state_dict().items()}

    def load(kept: Mapping[str, Tensor]) -> None:
        model.model.load_state_dict(kept, strict=False)
        probe.load_state_dict({name: kept[f"probe.{name}"] for name in probe.state_dict()})

    run = Run(file, optimizers, state, load, steps, straight(40, steps), until)
    for step in run:
        chosen = rng("tower", seed, step).sample(range(len(album.scenes)), BATCH)
        seen_NPE = model.model.vision_model(pixel_values(album.pixels_NHW3[chosen])).last_hidden_state
        out_NPD = model.model.connector(seen_NPE)
        loss = word_loss(out_NPD, album.word_NP[chosen], album.hard_NPH[chosen], words)
        loss = loss + 0.5 * probe.loss(seen_NPE, album.word_NP[chosen])
        run.apply(loss)
        if step % 25 == 24 or step == steps - 1:
            record = {"stage": "tower", "step": step, "loss": loss.item(), "cpu_seconds": run.cpu_seconds}
            log(record | reading(out_NPD.detach(), album.word_NP[chosen], words))
    return run.ended


def word_loss(out_NPD: Tensor, word_NP: Tensor, hard_NPH: Tensor, words: Words) -> Tensor:
    """Squared error over the words' variance, plus half the cross-entropy of being nearest to the right word."""
    goal_NPD = words.known_WD[word_NP] + HARD_SHARE * hard_NPH @ words.hard_HD
    weight_NP = torch.where(word_NP == 0, BLANK_WEIGHT, 1.0)
    error_NP = (out_NPD - goal_NPD).pow(2).sum(-1) / words.variance
    distance_NPW = _distances(out_NPD, words) / words.variance
    entropy_NP = F.cross_entropy((-4 * distance_NPW).flatten(0, 1), word_NP.flatten(), reduction="none")
    both_NP = error_NP + 0.5 * entropy_NP.view_as(error_NP)
    return (both_NP * weight_NP).sum() / weight_NP.sum()


def _distances(out_NPD: Tensor, words: Words) -> Tensor:
    """Squared distances to all words, [N, P, W]."""
    cross_NPW = out_NPD @ words.known_WD.T
    return out_NPD.pow(2).sum(-1, keepdim=True) - 2 * cross_NPW + words.known_WD.pow(2).sum(-1)


@torch.no_grad()
def reading(out_NPD: Tensor, word_NP: Tensor, words: Words) -> dict[str, float]:
    """How often the nearest word is the right one: for positions, colours, kinds and empty patches."""
    right_NP = _distances(out_NPD, words).argmin(-1) == word_NP
    first = {"position": 1, "colour": 1 + len(ROWS) + len(COLUMNS)}
    first |= {"kind": first["colour"] + len(COLOURS), "end": len(WORDS)}
    bounds = list(first.values())
    found = {"empty": right_NP[word_NP == 0].float().mean().item()}
    for name, low, high in zip(first, bounds[:-1], bounds[1:], strict=False):
        found[name] = right_NP[(word_NP >= low) & (word_NP < high)].float().mean().item()
    return found


@torch.no_grad()
def gate(model: Any, words: Words, count: int = 500, seed: int = 1) -> dict[str, float]:
    """The same on fresh test scenes, for objects that are clear to see and for those that are not."""
    album = Album.drawn("test", count, seed)
    out_NPD = torch.cat([encode(model, pixel_values(part)) for part in np.array_split(album.pixels_NHW3, 10)])
    side = SIDE // PATCH
    hard_NP = album.hard_NPH.sum(-1) > 0
    rows = torch.arange(side * side) // side % 2
    corner_P = torch.arange(side * side) - rows * side - torch.arange(side * side) % 2
    hidden_NP = hard_NP[:, corner_P]  # every patch of a cell knows what its first one says
    figures = {}
    for name, wanted_NP in (("clear", ~hidden_NP), ("hard", hidden_NP & (album.word_NP > 0))):
        part = reading(out_NPD[wanted_NP][None], album.word_NP[wanted_NP][None], words)
        figures |= {f"{name}_{key}": round(value, 4) for key, value in part.items()}
    return figures
