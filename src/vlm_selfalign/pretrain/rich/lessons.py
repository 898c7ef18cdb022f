"""One clean run of the second edition: items, vision, language; continued where it was interrupted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from vlm_selfalign.data.world.language import plural
from vlm_selfalign.data.world.scenes import Split
from vlm_selfalign.data.world.settings import COLOURS, KINDS
from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.rich import vision
from vlm_selfalign.pretrain.rich.architecture import build, configuration
from vlm_selfalign.pretrain.rich.curriculum import EVERYTHING, STEPS, exchanges
from vlm_selfalign.pretrain.rich.items import SLOTS, Item, Medium, crowded, item
from vlm_selfalign.pretrain.rich.language import Album, Learner, Texts
from vlm_selfalign.pretrain.rich.probe import quick_accuracy
from vlm_selfalign.pretrain.rich.words import SINGLE, words
from vlm_selfalign.pretrain.tokens import SPECIAL, processor

VISION, LANGUAGE = "vision.pt", "language.pt"
"""States of an unfinished run, in its folder."""

USED = 400
"""Items of each medium whose lessons show which tokens are used at all."""

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Size:
    """How much is drawn: pictures and clips to learn from, and held-out items of each medium for the curves.

    ``crowded``: pictures that only the vision tower sees.
    """

    pictures: int = 8000
    crowded: int = 6000
    clips: int = 2000
    held_out: int = 60
    steps: int = STEPS


def teach(seed: int, out: Path, log: Log, size: Size) -> tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor]:
    """The trained model and its processor."""
    maker = processor(SIDE, PATCH, MERGE, words())
    tokenizer: Any = maker.tokenizer
    ids: dict[str, int] = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    model = build(configuration(ids, len(tokenizer)), seed)
    packer = Packer(tokenizer)
    hush(model, packer)
    known = embeddings(model, tokenizer)
    albums, unseen = _looked_at(model, known, seed, out / VISION, log, size)
    albums["text"] = Album(Texts(), torch.empty(0))
    learner = Learner(model, packer, tokenizer, albums, seed, size.steps)
    if (out / LANGUAGE).exists():
        learner.resume(out / LANGUAGE)
        log({"stage": "resumed", "step": learner.done})
    texts = [item("text", index, "dev") for index in range(size.held_out)]
    unseen["text"] = Album(texts, torch.empty(0))
    learner.learn(out / LANGUAGE, log, lambda: quick_accuracy(model, packer, unseen))
    return model, maker


def _looked_at(
    model: Qwen2VLForConditionalGeneration, known: vision.Words, seed: int, state: Path, log: Log, size: Size
) -> tuple[dict[Medium, Album], dict[Medium, Album]]:
    """The vision tower's lesson, and all pictures and clips through its eyes; read from ``state`` where it is there."""
    train = {"picture": drawn("picture", size.pictures, "train"), "clip": drawn("clip", size.clips, "train")}
    held_out = {"picture": drawn("picture", size.held_out, "dev"), "clip": drawn("clip", size.held_out, "dev")}
    if not state.exists():
        began = time.process_time()
        values = {name: vision.frames(items) for name, items in train.items()}
        more = [crowded(index) for index in range(size.crowded)]
        pictures = np.concatenate([values["picture"], vision.frames(more)])
        log({"stage": "drawn", "cpu_seconds": round(time.process_time() - began, 1)})
        began = time.process_time()
        truths = vision.cells([*train["picture"], *more]), vision.cells(train["clip"])
        vision.align(model, (pictures, truths[0]), (values["clip"], truths[1]), known, seed, log)
        model.eval()
        log({"stage": "aligned", "cpu_seconds": round(time.process_time() - began, 1)})
        began = time.process_time()
        seen = {name: vision.cached(model, values[name], _slots(name)) for name in train}
        log({"stage": "cached", "cpu_seconds": round(time.process_time() - began, 1)})
        torch.save({"model": model.state_dict(), "seen": seen}, state)
    saved = torch.load(state, weights_only=True)
    model.load_state_dict(saved["model"])
    albums = {name: Album(items, saved["seen"][name]) for name, items in train.items()}
    unseen: dict[Medium, Album] = {}
    for name, items in held_out.items():
        features = vision.cached(model, vision.frames(items), _slots(name))
        found = vision.accuracy(features.float().flatten(0, 1)[None], _flat(vision.cells(items)), known)
        log({"stage": "held out", "medium": name, **found})
        unseen[name] = Album(items, features)  # type: ignore[index]
    return albums, unseen  # type: ignore[return-value]


def _slots(medium: str) -> int:
    return SLOTS if medium == "clip" else 1


def _flat(truth: vision.Cells) -> vision.Cells:
    return vision.Cells(*(part.flatten()[None] for part in vars(truth).values()))


def drawn(medium: Medium, count: int, split: Split) -> list[Item]:
    """``count`` items of a split."""
    return [item(medium, index, split) for index in range(count)]


@torch.no_grad()
def hush(model: Qwen2VLForConditionalGeneration, packer: Packer) -> None:
    """Give all tokens that no lesson uses nearly the same embedding; see the first edition's ``lessons``."""
    chance = random.Random(0)
    used: set[int] = {packer.video, packer.image}
    for medium in ("picture", "clip", "text"):
        items = drawn(medium, USED, "train")  # type: ignore[arg-type]
        rows = [exchanges(EVERYTHING, one, chance) for one in items]
        packed = packer.pack(rows, heads=[one.head for one in items])
        used |= set(packed.ids_BT.unique().tolist())
    table = model.model.language_model.embed_tokens.weight
    silent = torch.ones(len(table), dtype=torch.bool)
    silent[list(used)] = False
    table[silent] = table[silent][:1] + 0.3 * table[silent]


@torch.no_grad()
def embeddings(model: Qwen2VLForConditionalGeneration, tokenizer: Any) -> vision.Words:
    """Embeddings that visual tokens are aligned to, as the words stand in a sentence.

    A word that opens an answer has no space before it and is another token: it starts as the same vector plus one
    shift that all such tokens share, so that reading a cell and answering stay one skill. So do plurals.
    """
    table = model.model.language_model.embed_tokens.weight

    def ids(names: Iterable[str], space: str = "Ġ") -> list[int]:
        found = tokenizer.convert_tokens_to_ids([space + name for name in names])
        assert None not in found
        return found

    bare, many = table[ids(["Yes"], "")].clone(), table[ids(["No"], "")].clone()
    table[ids(SINGLE, "")] = table[ids(SINGLE)] + bare
    plurals = [kind for kind in KINDS if plural(kind) != kind]
    table[ids([plural(kind) for kind in plurals])] = table[ids(plurals)] + many
    (touches,), nothing = table[ids([vision.TOUCHES])].clone(), table[model.config.video_token_id].clone()
    kinds, colours, happens = (table[ids(names)].clone() for names in (KINDS, COLOURS, vision.HAPPENS))
    return vision.Words(kinds, colours, happens, touches, nothing)
