"""Quick accuracy on held-out items while training, by medium and task, in packed rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import Qwen2VLForConditionalGeneration

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.pretrain.forward import hidden
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.rich.items import Item, Medium
from vlm_selfalign.pretrain.rich.language import Album
from vlm_selfalign.pretrain.rich.tasks import branches
from vlm_selfalign.pretrain.tasks import Branch

LOOK = {"exists": 3, "colour": 2, "count": 1, "count_kind": 1, "position": 2, "relation": 1, "side": 1, "in_place": 1}
WATCH = {"exists": 3, "colour": 1, "event": 1, "order": 1, "who_first": 1, "direction": 2, "count": 1}


@torch.no_grad()
def quick_accuracy(
    model: Qwen2VLForConditionalGeneration, packer: Packer, albums: Mapping[Medium, Album]
) -> dict[str, float]:
    """Share of answers of which every token is the likeliest one after those before it, by medium and task."""
    right: dict[str, list[bool]] = {}
    for medium, album in albums.items():
        for start in range(0, len(album.items), 20):
            here = range(start, min(start + 20, len(album.items)))
            items = [album.items[n] for n in here]
            asked = [_questions(one, number) for number, one in zip(here, items, strict=True)]
            packed = packer.pack([[b for _, b in row] for row in asked], heads=[one.head for one in items])
            features = None if medium == "text" else album.features(list(here))
            states = hidden(model, packer, packed, features)
            learnt = packed.targets_BT >= 0
            hits = (model.lm_head(states[learnt]).argmax(-1) == packed.targets_BT[learnt]).tolist()
            for name, branch in (entry for row in asked for entry in row):
                size = len(packer.ids(branch.answer)) + 1
                right.setdefault(f"{medium}_{name}", []).append(all(hits[:size]))
                hits = hits[size:]
    return {name: round(sum(hits) / len(hits), 3) for name, hits in sorted(right.items())}


def _questions(item: Item, number: int) -> Sequence[tuple[str, Branch]]:
    chance = rng("quick", item.medium, number)
    tasks = (WATCH if "events" in item.truth else LOOK) | ({"arithmetic": 3} if item.medium == "text" else {})
    return [(name, branch) for name, count in tasks.items() for branch in branches(name, item, chance, count)]
