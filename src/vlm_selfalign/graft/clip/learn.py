"""Training of the tiny open_clip model: every picture of a batch against every text, by the truth.

Legend: B pictures, T texts, L tokens, D features.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.graft.clip.architecture import CONTEXT, PREPROCESS, build, save, tokenizer
from vlm_selfalign.graft.clip.shown import Shown, shown, texts_of
from vlm_selfalign.graft.resume import Log, Run, straight

PICTURES = 9000
STEPS = 1500
BATCH = 48
RATE = 2e-3
STATE = "state.pt"

SINGLE = 0.1
"""The first share of the run shows one object at a time: amid others a kind takes five times as long to stand out."""


def teach(
    folder: Path, seed: int, log: Log, steps: int = STEPS, pictures: int = PICTURES, until: float = math.inf
) -> bool:
    """One run from nothing, or on from where it was stopped; the model is saved in ``folder`` when it ends."""
    album = [shown(index, "train", 0) for index in range(pictures)]
    single = [shown(index, "train", 1, most=1) for index in range(pictures // 4)]
    words = tokenizer(told(album[:2000], seed))
    model = build(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.02)
    rate = straight(RATE, 50, steps)
    run = Run(folder / STATE, optimizer, model.state_dict, model.load_state_dict, steps, rate, until)
    for step in run:
        done = step / steps
        batch = rng("clip batch", seed, step).sample(single if done < SINGLE else album, BATCH)
        loss, right = _loss(model, words, batch, rng("clip texts", seed, step), max(0.0, min(0.6, 2 * done - 0.7)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 24:
            log({"stage": "clip", "step": step, "loss": loss.item(), "cpu_seconds": run.cpu_seconds} | right)
    if run.ended:
        save(model, words, folder)
    return run.ended


def told(album: Sequence[Shown], seed: int) -> list[str]:
    """Texts of pictures, to learn the words from."""
    chance = rng("clip words", seed)
    return [text.text for one in album for text in texts_of(one.there, chance, 0.7)]


def _loss(
    model: Any, words: PreTrainedTokenizerFast, batch: Sequence[Shown], chance: random.Random, long: float
) -> tuple[Tensor, dict[str, float]]:
    """Sigmoid loss: texts that hold, a picture's own near miss, and all others weigh alike."""
    pairs = [texts_of(one.there, chance, long) for one in batch]
    texts = [text for pair in pairs for text in pair]
    pictures_BD = model.encode_image(pixels(batch), normalize=True)
    texts_TD = encode_texts(model, ids(words, [text.text for text in texts]))
    logits_BT = model.logit_scale.exp() * pictures_BD @ texts_TD.T + model.logit_bias
    truth_BT = torch.tensor([[text.holds(one.there) for text in texts] for one in batch])
    own_BT = torch.zeros_like(truth_BT)
    for index in range(len(batch)):
        own_BT[index, 2 * index + 1] = True
    each_BT = F.binary_cross_entropy_with_logits(logits_BT, truth_BT.float(), reduction="none")
    near_BT = own_BT & ~truth_BT
    loss = each_BT[truth_BT].mean() + each_BT[near_BT].mean() + each_BT[~truth_BT & ~near_BT].mean()
    says_BT = logits_BT > 0
    right = {
        "true": says_BT[truth_BT].float().mean().item(),
        "near": 1 - says_BT[near_BT].float().mean().item(),
        "other": 1 - says_BT[~truth_BT & ~near_BT].float().mean().item(),
    }
    return loss, right


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
