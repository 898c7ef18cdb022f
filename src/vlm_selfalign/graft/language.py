"""Second lesson of the grafted model: a LoRA adapter teaches SmolLM2 to read the tower's words and to speak of them.

The tower is frozen. One clean run, resumable at any time: what is learnt at a step depends on seed and step alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from transformers import SmolVLMForConditionalGeneration

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.graft.lessons import exchanges
from vlm_selfalign.graft.packing import Packed, Packer, hidden, packed_loss
from vlm_selfalign.graft.resume import Log, Run, straight, two_legs
from vlm_selfalign.graft.text_only import TextAnswer
from vlm_selfalign.graft.tower import PLAIN, RICH, Album, encode, pixel_values

STEPS, AGAIN = 210, 200
"""After ``STEPS`` come ``AGAIN`` at half the rate, with more about colours: see ``Leg``."""
BATCH = 4
RATE = 8e-4
"""At 1e-3 counting came and went."""

WARM_UP = 20
DESCRIBE_FROM = 0.25
"""From this share of the run on most pictures are described; before, three in ten, until questions are learnt."""

HALF = 0.5
CHECK_EVERY = 30
HELD_OUT = 16
STATE, ADAPTER = "state.pt", "adapter"

TARGETS = r".*text_model\.layers\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@dataclass(frozen=True)
class Pictures:
    """Scenes, the dials each was drawn with, and the tower's tokens for their pictures, [N, P, D]."""

    scenes: Sequence[Scene]
    features_NPD: Tensor

    @classmethod
    @torch.no_grad()
    def seen(cls, model: SmolVLMForConditionalGeneration, split: Any, count: int, seed: int = 0) -> Pictures:
        """``count`` scenes of a split as the tower sees them."""
        album = Album.drawn(split, count, seed)
        parts = [encode(model, pixel_values(album.pixels_NHW3[at : at + 100])) for at in range(0, count, 100)]
        return cls(album.scenes, torch.cat(parts))


@dataclass(frozen=True)
class Leg:
    """What differs between the two parts of a run: of how many kinds a picture's colours are asked, how much a colour
    weighs in a description, and how often there is one.

    After the first part a sixth of the colours that descriptions told were wrong, and an eighth of the counts.
    """

    colours: tuple[int, int] = (1, 2)
    colour_weight: float = 1.0
    describe: float = 0.8


FIRST = Leg()
EARLY = Leg(describe=0.3)
SECOND = Leg(colours=(3, 4), colour_weight=3.0)


def leg_at(step: int, steps: int) -> Leg:
    """What part of a run with ``steps`` first steps a step belongs to."""
    if step >= steps:
        return SECOND
    return EARLY if step < DESCRIBE_FROM * steps else FIRST


def learn(
    model: SmolVLMForConditionalGeneration,
    packer: Packer,
    texts: Sequence[TextAnswer],
    folder: Path,
    seed: int,
    log: Log,
    steps: int = STEPS,
    again: int = AGAIN,
    until: float = math.inf,
) -> bool:
    """Train from where ``folder`` left off; whether it came to the end before ``until`` (seconds since 1970)."""
    adapted = adapter(model, seed)
    learnt = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=RATE, weight_decay=0.0)
    state, load = partial(get_peft_model_state_dict, adapted), partial(set_peft_model_state_dict, adapted)
    rate = two_legs(straight(WARM_UP, steps, 0.05), steps, again, HALF)
    run = Run(folder / STATE, [optimizer], state, load, steps + again, rate, until)
    # Not the tower's own pictures: of those it knows by heart what is hard to see.
    train = Pictures.seen(model, "train", BATCH * (steps + again), seed + 1)
    held_out = Pictures.seen(model, "dev", HELD_OUT, seed)
    for step in run:
        loss = _loss(model, packer, texts, train, step, seed, leg_at(step, steps))
        run.apply(loss)
        record = {"stage": "language", "step": step, "loss": loss.item(), "cpu_seconds": run.cpu_seconds}
        if (step + 1) % CHECK_EVERY == 0:
            record |= check(model, packer, held_out)
            adapted.save_pretrained(str(folder / f"step{step + 1}"))
        log(record)
    if run.ended:
        adapted.save_pretrained(str(folder / ADAPTER))
    return run.ended


def adapter(model: SmolVLMForConditionalGeneration, seed: int) -> Any:
    """PEFT's wrapper with a fresh adapter on all linear layers of the language model; nothing else learns."""
    torch.manual_seed(seed)
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS))  # type: ignore[arg-type]


def _loss(
    model: Any, packer: Packer, texts: Sequence[TextAnswer], train: Pictures, step: int, seed: int, leg: Leg
) -> Tensor:
    chance, chosen = rng("graft", seed, step), list(range(step * BATCH, (step + 1) * BATCH))
    rows = [exchanges(train.scenes[n], dials_of(n), chance, leg.describe, texts, leg.colours) for n in chosen]
    return packed_loss(model, packer, packer.pack(rows, leg.colour_weight), train.features_NPD[chosen])


def dials_of(index: int) -> Any:
    """The dials that an album's picture was drawn with."""
    return PLAIN if index % 4 == 0 else RICH


@torch.no_grad()
def check(model: Any, packer: Packer, held_out: Pictures) -> dict[str, float]:
    """How often the tokens that matter are the likeliest: yes and no, colours, numbers; on held-out pictures."""
    right: dict[float, list[bool]] = {}
    for index, scene in enumerate(held_out.scenes):
        asked = exchanges(scene, dials_of(index), rng("graft dev", index), describe=0.0)
        packed = packer.pack([asked])
        for weight, hit in _hits(model, packer, packed, held_out.features_NPD[index : index + 1]):
            right.setdefault(weight, []).append(hit)
    names = {4.0: "yes_no", 3.0: "colour", 6.0: "number"}
    return {name: round(sum(right[w]) / len(right[w]), 3) for w, name in names.items() if w in right}


def _hits(model: Any, packer: Packer, packed: Packed, features_BPD: Tensor) -> list[tuple[float, bool]]:
    telling = packed.weights_BT > 1
    logits = model.lm_head(hidden(model, packer, packed, features_BPD)[telling])
    hits = logits.argmax(-1) == packed.targets_BT[telling]
    return list(zip(packed.weights_BT[telling].tolist(), hits.tolist(), strict=True))
