"""Second lesson of the second edition: the language model learns the curriculum behind cached visual features.

Every step is one batch of each medium, their losses summed. It can be interrupted and continued: what a step sees is
a function of seed and step alone.
Legend: B rows, T tokens, C visual tokens, D hidden size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.pretrain.curriculum import system_turn
from vlm_selfalign.pretrain.forward import packed_loss
from vlm_selfalign.pretrain.muon import Muon
from vlm_selfalign.pretrain.packing import Packer
from vlm_selfalign.pretrain.rich.asides import Asides
from vlm_selfalign.pretrain.rich.curriculum import FULL, STEPS, exchanges, phase_at
from vlm_selfalign.pretrain.rich.items import Item, Medium, item

MATRIX_RATE = 4e-3
RATE = 2e-3
EMBEDDING_RATE = 1e-4
WARM = 40
"""Steps until the rates are full."""
TEXTS = 20000
"""Different texts; they are told anew when they are met."""
SAVED_EVERY = 50


@dataclass(frozen=True)
class Album:
    """Items of one medium and their visual features [N, C, D]; texts have none."""

    items: Sequence[Item]
    features_NCD: Tensor

    def features(self, chosen: Sequence[int]) -> Tensor:
        """[B, C, D], in full precision."""
        return self.features_NCD[list(chosen)].float()


@dataclass
class Learner:
    """Model, optimizers and the number of steps done: all that an interruption must not lose."""

    model: Qwen2VLForConditionalGeneration
    packer: Packer
    tokenizer: Any
    albums: Mapping[Medium, Album]
    seed: int
    steps: int = STEPS
    done: int = 0
    spent: float = 0.0

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        text = self.model.model.language_model
        self.asides = Asides(self.model, self.packer, self.tokenizer)
        layers = [p for name, p in text.named_parameters() if "embed_tokens" not in name]
        vectors = [p for p in layers if p.ndim == 1] + list(self.asides.parameters())
        groups = [{"params": vectors, "lr": RATE}, {"params": [text.embed_tokens.weight], "lr": EMBEDDING_RATE}]
        self.optimizers = [
            Muon([p for p in layers if p.ndim == 2], lr=MATRIX_RATE),
            torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def learn(
        self,
        state: Path,
        log: Callable[[dict[str, Any]], None],
        check: Callable[[], dict[str, float]] = dict,
        check_every: int = 100,
    ) -> None:
        """Go on until all steps are done; the state is written every ``SAVED_EVERY`` steps."""
        while self.done < self.steps:
            began = time.process_time()
            record = self.step()
            self.done += 1
            self.spent += time.process_time() - began
            if self.done % 10 == 0:
                if self.done % check_every == 0 or self.done == self.steps:
                    record |= check()
                log(record | {"cpu_seconds": round(self.spent, 1)})
            if self.done % SAVED_EVERY == 0 or self.done == self.steps:
                self.save(state)

    def step(self) -> dict[str, Any]:
        """One step on a batch of each medium; what it lost."""
        phase = phase_at(self.done)
        chance = rng("rich", self.seed, self.done)
        record: dict[str, Any] = {"stage": "language", "step": self.done, "phase": phase.name}
        for medium, rows in phase.rows.items():
            chosen = [chance.randrange(len(self.albums[medium].items)) for _ in range(rows)]
            shown = [self.albums[medium].items[n] for n in chosen]
            asked = [exchanges(phase, one, chance) for one in shown]
            packed = self.packer.pack(asked, [system_turn(chance) for _ in shown], [one.head for one in shown])
            features = None if medium == "text" else self.albums[medium].features(chosen)
            answers = packed_loss(self.model, self.packer, packed, features)
            places, named, left = self.asides(packed, shown)
            ((answers + places + named + left) / len(phase.rows)).backward()
            record |= {medium: round(answers.item(), 4)}
            record |= {f"{medium}_named": round(named.item(), 4), f"{medium}_left": round(left.item(), 4)}
        rate = rate_at(self.done, self.steps)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = full * rate
            optimizer.step()
            optimizer.zero_grad()
        return record

    def save(self, path: Path) -> None:
        """Write everything, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "asides": self.asides.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "made_with": self._made_with(),
            "done": self.done,
            "spent": self.spent,
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def _made_with(self) -> dict[str, int]:
        return {"seed": self.seed, "steps": self.steps, "pictures": len(self.albums["picture"].items)}

    def resume(self, path: Path) -> None:
        """Go on from a state that was written; raises ``UserError`` where it belongs to another run."""
        state = torch.load(path, weights_only=True)
        if state["made_with"] != self._made_with():
            raise UserError(f"{path}: an unfinished run with {state['made_with']}; repeat its settings or add --fresh")
        self.model.load_state_dict(state["model"])
        self.asides.load_state_dict(state["asides"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.done, self.spent = state["done"], state["spent"]


def rate_at(step: int, steps: int) -> float:
    """Share of the full rates: a short rise, full for a share ``FULL`` of all steps, then evenly down to nothing."""
    return min((step + 1) / WARM, 1.0, (steps - step) / ((1 - FULL) * steps))


class Texts(Sequence[Item]):
    """Texts are told when they are met, not kept."""

    def __len__(self) -> int:
        return TEXTS

    def __getitem__(self, index: Any) -> Any:
        return item("text", index, "train")
