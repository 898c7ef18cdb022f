"""One clean run from nothing: scenes, vision, language; the next seed where one stalls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from vlm_selfalign.data.world.scenes import Scene, scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings
from vlm_selfalign.pretrain import language, vision
from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE, build, configuration
from vlm_selfalign.pretrain.curriculum import CURRICULUM, exchanges
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.tokens import SPECIAL, processor

PICTURES = 9000
HELD_OUT = 200
"""Dev scenes for the curves and for noticing a stalled seed."""

TRIES = 4

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Pictures:
    """Scenes with their patches, drawn once for all tries."""

    scenes: list[Scene]
    patches_NPV: Tensor

    @classmethod
    def drawn(cls, split: str, count: int, maker: Qwen2VLProcessor, dials: WorldSettings) -> Pictures:
        """``count`` pictures of a split."""
        scenes = [scene(index, split, 0, dials) for index in range(count)]  # type: ignore[arg-type]
        return cls(scenes, vision.pixels(scenes, maker, dials))


def teach(seed: int, log: Log) -> tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor, int]:
    """The trained model, its processor, and the seed that did not stall. Raises ``Stalled`` after four that did."""
    dials = WorldSettings()
    maker = processor(SIDE, PATCH, MERGE)
    train = Pictures.drawn("train", PICTURES, maker, dials)
    held_out = Pictures.drawn("dev", HELD_OUT, maker, dials)
    log({"stage": "drawn", "pictures": PICTURES, "cpu_seconds": round(time.process_time(), 1)})
    for attempt in range(seed, seed + TRIES):
        try:
            return _once(attempt, maker, train, held_out, dials, log), maker, attempt
        except language.Stalled as reason:
            log({"stage": "stalled", "seed": attempt, "reason": str(reason), "next": attempt + 1})
    raise language.Stalled(f"seeds {seed} to {seed + TRIES - 1} all stalled")


def _once(
    seed: int, maker: Qwen2VLProcessor, train: Pictures, held_out: Pictures, dials: WorldSettings, log: Log
) -> Qwen2VLForConditionalGeneration:
    tokenizer: Any = maker.tokenizer
    ids: dict[str, int] = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    model = build(configuration(ids, len(tokenizer)), seed)
    packer = Packer(tokenizer)
    _hush(model, packer, train.scenes[:200], dials)
    words = _embeddings(model, tokenizer)
    generator = torch.Generator().manual_seed(seed)
    truth = vision.cells(train.scenes, dials)
    vision.align(model, train.patches_NPV, truth, words, generator, log=log)
    album = language.Album(train.scenes, _cached(model, train.patches_NPV))
    unseen = language.Album(held_out.scenes, _cached(model, held_out.patches_NPV))
    reading = vision.accuracy(unseen.features_NCD, *vision.cells(held_out.scenes, dials), words)
    log({"stage": "aligned", "seed": seed, **reading, "cpu_seconds": round(time.process_time(), 1)})
    language.learn(model, packer, album, unseen, dials, seed, log)
    return model


@torch.no_grad()
def _hush(model: Qwen2VLForConditionalGeneration, packer: Packer, scenes: list[Scene], dials: WorldSettings) -> None:
    """Give all tokens that no lesson uses nearly the same embedding.

    One direction then silences them all; as 300 random vectors they kept enough probability for a stray byte in
    one of twenty texts sampled at temperature 1.
    """
    chance = random.Random(0)
    rows = [exchanges(phase, scene, chance, dials) for phase in CURRICULUM for scene in scenes]
    table = model.model.language_model.embed_tokens.weight
    silent = torch.ones(len(table), dtype=torch.bool)
    silent[packer.pack(rows).ids_BT.unique()] = False
    table[silent] = table[silent][:1] + 0.3 * table[silent]


@torch.no_grad()
def _embeddings(model: Qwen2VLForConditionalGeneration, tokenizer: Any) -> vision.Words:
    """Embeddings of all kinds and colours as they stand in a sentence.

    A colour that opens an answer has no space before it and is another token: it starts as the same vector plus
    one shift that all such tokens share, so that reading a cell and naming its colour stay one skill.
    """
    table = model.model.language_model.embed_tokens.weight
    kinds = tokenizer.convert_tokens_to_ids(["Ġ" + kind for kind in KINDS])
    colours = tokenizer.convert_tokens_to_ids(["Ġ" + colour for colour in COLOURS])
    bare = tokenizer.convert_tokens_to_ids(list(COLOURS))
    shift = table[tokenizer.convert_tokens_to_ids("Yes")].clone()
    table[bare] = table[colours] + shift
    return vision.Words(table[kinds].clone(), table[colours].clone(), table[model.config.video_token_id].clone())


@torch.no_grad()
def _cached(model: Qwen2VLForConditionalGeneration, patches_NPV: Tensor) -> Tensor:
    return torch.cat([vision.encode(model, part) for part in patches_NPV.split(500)])
