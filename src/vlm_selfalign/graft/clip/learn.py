"""Training of the tiny open_clip model: both towers name what is there, then every picture meets every text.

Trained by the match of pictures and texts alone it stayed at chance for 300 steps. So each patch first says what it
shows, the picture and the text what they hold, all against the same vectors, one for each label: the towers agree
before they meet.

Legend: B pictures, T texts, L tokens, D features, P patches, C labels.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.graft.clip.architecture import CONTEXT, MODEL, PREPROCESS, build, save, tokenizer
from vlm_selfalign.graft.clip.shown import LABELS, PAIRS, Shown, Text, frame, labels, shown, texts_of
from vlm_selfalign.graft.resume import Log, Run, straight, two_legs
from vlm_selfalign.pretrain.muon import Muon

PICTURES, FRAMES = 10000, 4000
STEPS, AGAIN = 1000, 300
"""After ``STEPS`` come ``AGAIN`` in which half of a batch are fresh frames of clips: they are the harder kind."""

BATCH = 32
MATRIX_RATE, RATE = 4e-3, 2e-3
"""Of matrices, under Muon, and of all else, under AdamW."""

STATE, SHIP = "state.pt", "ship"
MEET_FROM = 0.3
"""The share of the run that is spent on naming alone."""


class Named(nn.Module):
    """One vector for each label, and how a match with it is turned into a logit; thrown away in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.labels_CD = nn.Parameter(torch.randn(len(LABELS), MODEL["embed_dim"]) / MODEL["embed_dim"] ** 0.5)
        self.nothing_D = nn.Parameter(torch.zeros(MODEL["embed_dim"]))
        self.biases = nn.Parameter(torch.full((2, len(LABELS)), -2.0))
        self.scales = nn.Parameter(torch.full((3,), 2.5))

    def forward(self, unit_D: Tensor, which: int) -> Tensor:
        """Logits of all labels for unit features [..., D]; ``which``: 0 for pictures, 1 for texts."""
        return self.scales[which].exp() * unit_D @ self.labels_CD.T + self.biases[which]

    def patches(self, out_BPD: Tensor) -> Tensor:
        """Logits of nothing and of each of ``PAIRS``, [B, P, 1 + pairs]."""
        known = torch.cat([self.nothing_D[None], self.labels_CD[: len(PAIRS)]])
        return self.scales[2].exp() * F.normalize(out_BPD, dim=-1) @ known.T


@dataclass(frozen=True)
class Batch:
    """Pictures, and twice as many texts: of each picture one that holds and its near miss."""

    album: Sequence[Shown]
    texts: Sequence[Text]

    @classmethod
    def of(cls, album: Sequence[Shown], chance: random.Random, long: float) -> Batch:
        """``long``: how often a text is several sentences."""
        return cls(album, [text for one in album for text in texts_of(one.there, chance, long)])


def teach(
    folder: Path,
    seed: int,
    log: Log,
    steps: int = STEPS,
    again: int = AGAIN,
    pictures: int = PICTURES,
    until: float = math.inf,
) -> bool:
    """One run from nothing, or on from where it was stopped; the model is saved in ``folder/ship`` when it ends."""
    album = [shown(index, "train", 0) for index in range(pictures)]
    frames = [frame(index, "train", 1) for index in range(FRAMES if again else 0)]
    words = tokenizer(told(album[:2000], seed))
    model = build(seed)
    both = nn.ModuleDict({"model": model, "named": Named()})
    rate = two_legs(straight(50, steps), steps, again, 0.25)
    run = Run(folder / STATE, _optimizers(both), both.state_dict, both.load_state_dict, steps + again, rate, until)
    for step in run:
        chance = rng("clip batch", seed, step)
        half = 0 if step < steps else BATCH // 2
        chosen = chance.sample(album, BATCH - half) + chance.sample(frames, half)
        batch = Batch.of(chosen, rng("clip texts", seed, step), min(0.6, 0.1 + step / steps))
        loss, right = _loss(both, words, batch, meet=step >= MEET_FROM * steps)
        run.apply(loss)
        if step % 25 == 24:
            log({"stage": "clip", "step": step, "loss": loss.item(), "cpu_seconds": run.cpu_seconds} | right)
    if run.ended:
        save(model, words, folder / SHIP)
    return run.ended


def _optimizers(both: nn.ModuleDict) -> list[torch.optim.Optimizer]:
    """Muon for the towers' matrices, AdamW for embeddings, labels and all else."""
    matrices, rest = [], []
    for name, parameter in both.named_parameters():
        flat = parameter.ndim == 2 and "embedding" not in name and "named" not in name
        (matrices if flat else rest).append(parameter)
    return [Muon(matrices, lr=MATRIX_RATE), torch.optim.AdamW(rest, lr=RATE, weight_decay=0.0)]


def told(album: Sequence[Shown], seed: int) -> list[str]:
    """Texts of pictures, to learn the words from."""
    chance = rng("clip words", seed)
    return [text.text for one in album for text in texts_of(one.there, chance, 0.7)]


def _loss(
    both: nn.ModuleDict, words: PreTrainedTokenizerFast, batch: Batch, meet: bool
) -> tuple[Tensor, dict[str, float]]:
    model: Any = both["model"]
    model.visual.output_tokens = True  # only here: the patches before they are averaged
    pooled_BD, tokens_BPW = model.visual(pixels(batch.album))
    model.visual.output_tokens = False
    pictures_BD = F.normalize(pooled_BD, dim=-1)
    texts_TD = encode_texts(model, ids(words, [text.text for text in batch.texts]))
    patches_BPD = tokens_BPW @ model.visual.proj
    loss, right = named(both["named"], batch, pictures_BD, texts_TD, patches_BPD)  # type: ignore[arg-type]
    if meet:
        met, found = matched(model.logit_scale.exp() * pictures_BD @ texts_TD.T + model.logit_bias, batch)
        loss, right = loss + met, right | found
    return loss, right


def named(
    known: Named, batch: Batch, pictures_BD: Tensor, texts_TD: Tensor, patches_BPD: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """What each patch shows, what each picture holds and what each text says, label by label."""
    there_BC = torch.from_numpy(np.stack([labels(one.there.items()) for one in batch.album]))
    said_TC = torch.from_numpy(np.stack([labels(text.claims) for text in batch.texts]))
    cover_BP = torch.from_numpy(np.stack([one.cover for one in batch.album])) + 1
    seen_BPC = known.patches(patches_BPD)
    weights = torch.ones(seen_BPC.shape[-1])
    weights[0] = 0.25  # most patches are empty
    patch = F.cross_entropy(seen_BPC.flatten(0, 1), cover_BP.flatten(), weight=weights)
    picture, text = (
        F.binary_cross_entropy_with_logits(logits, truth) * 10
        for logits, truth in ((known(pictures_BD, 0), there_BC), (known(texts_TD, 1), said_TC))
    )
    hits_BP = (seen_BPC.argmax(-1) == cover_BP)[cover_BP > 0]
    right = {"patch": hits_BP.float().mean().item(), "picture": picture.item(), "text": text.item()}
    return patch + picture + text, right


def matched(logits_BT: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Sigmoid loss (Zhai et al. 2023): texts that hold, a picture's own near miss, and all others weigh alike."""
    truth_BT = torch.tensor([[text.holds(one.there) for text in batch.texts] for one in batch.album])
    own_BT = torch.zeros_like(truth_BT)
    for index in range(len(batch.album)):
        own_BT[index, 2 * index + 1] = True
    near_BT = own_BT & ~truth_BT
    other_BT = ~truth_BT & ~near_BT
    each_BT = F.binary_cross_entropy_with_logits(logits_BT, truth_BT.float(), reduction="none")
    says_BT = logits_BT > 0
    right = {
        "true": says_BT[truth_BT].float().mean().item(),
        "near": 1 - says_BT[near_BT].float().mean().item(),
        "other": 1 - says_BT[other_BT].float().mean().item(),
    }
    return each_BT[truth_BT].mean() + each_BT[near_BT].mean() + each_BT[other_BT].mean(), right


def encode_texts(model: Any, ids_TL: Tensor) -> Tensor:
    """Unit text features [T, D]: what ``model.encode_text`` gives for texts that are padded to the full context."""
    full, length = model.text.attn_mask, ids_TL.shape[1]
    model.text.attn_mask = full[:length, :length]  # open_clip cuts positions to the text's length, not its mask
    try:
        return model.encode_text(ids_TL, normalize=True)
    finally:
        model.text.attn_mask = full


def pixels(batch: Sequence[Shown]) -> Tensor:
    """What open_clip's own preprocessing gives for pictures of 64 x 64: [B, 3, 64, 64]."""
    values = torch.from_numpy(np.stack([one.pixels for one in batch])).float().permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(PREPROCESS[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (values - mean) / std


def ids(words: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Token ids [T, L], no longer than the longest text: what open_clip pads to the full context, cut."""
    return words(list(texts), max_length=CONTEXT, truncation=True, padding=True, return_tensors="pt")["input_ids"]
