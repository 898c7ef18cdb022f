"""Many exchanges behind one picture in one row: each sees the picture and itself, never its neighbours.

The same tokens at the same positions as one chat per exchange, at a fraction of the cost.
Legend: B rows, T tokens of the longest row, P visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlm_selfalign.data.world.settings import COLOURS
from vlm_selfalign.graft.lessons import Exchange
from vlm_selfalign.models.grafted import SYSTEM, TOKENS

HEAD = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
PICTURE = "<fake_token_around_image><global-img>" + "<image>" * TOKENS + "<fake_token_around_image>"
TURN = "<|im_end|>\n<|im_start|>assistant\n"
END = "<|im_end|>"

COLOUR_WORDS = tuple(f" {colour}" for colour in COLOURS)
WEIGHTS = {"Yes": 4.0, "No": 4.0} | dict.fromkeys("0123456789", 6.0) | dict.fromkeys(COLOUR_WORDS, 3.0)
"""Of an answer only some tokens say anything about the picture; the rest is soon known by heart."""


ROOM = 330
"""Tokens of the longest row; what finds no room is left out. All rows of a batch cost what the longest does."""


@dataclass(frozen=True)
class Packed:
    """A batch: token ids, positions, who sees whom, and what to learn how much."""

    ids_BT: Tensor
    positions_BT: Tensor
    sees_B1TT: Tensor
    targets_BT: Tensor
    """The token that comes next, or -100."""
    weights_BT: Tensor


@dataclass
class _Row:
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, ids: list[int], first: int, owner: int, alone: bool = False) -> None:
        self.ids += ids
        self.positions += range(first, first + len(ids))
        self.owner += [owner] * len(ids)
        self.alone += [alone] * len(ids)
        self.targets += [-100] * len(ids)
        self.weights += [0.0] * len(ids)

    def learn(self, answer: list[int], weights: list[float]) -> None:
        """The last ``len(answer)`` tokens are targets, each of the token before it."""
        here = slice(len(self.ids) - len(answer) - 1, len(self.ids) - 1)
        self.targets[here] = answer
        self.weights[here] = weights


class Packer:
    """Turns exchanges into rows; remembers the ids of texts it has seen."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self._prefix = self.ids(HEAD + PICTURE)
        self.image: int = tokenizer.convert_tokens_to_ids("<image>")
        self.pad: int = tokenizer.pad_token_id

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        if text not in self._known:
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._known[text]

    def pack(self, rows: Sequence[Sequence[Exchange]], colour_weight: float = 1.0) -> Packed:
        """One row per picture, its exchanges one after the other; ``colour_weight``: of a colour in a description."""
        laid = [self._row(row, colour_weight) for row in rows]
        size = (len(rows), max(len(row.ids) for row in laid))
        ids_BT, owner_BT, targets_BT = torch.full(size, self.pad), torch.full(size, -1), torch.full(size, -100)
        positions_BT, alone_BT, weights_BT = torch.zeros(size).long(), torch.zeros(size).bool(), torch.zeros(size)
        for b, row in enumerate(laid):
            here = slice(0, len(row.ids))
            ids_BT[b, here], owner_BT[b, here] = torch.tensor(row.ids), torch.tensor(row.owner)
            positions_BT[b, here], alone_BT[b, here] = torch.tensor(row.positions), torch.tensor(row.alone)
            targets_BT[b, here], weights_BT[b, here] = torch.tensor(row.targets), torch.tensor(row.weights)
        return Packed(ids_BT, positions_BT, _visibility(owner_BT, alone_BT), targets_BT, weights_BT)

    def _row(self, exchanges: Sequence[Exchange], colour_weight: float) -> _Row:
        row = _Row()
        row.add(self._prefix, 0, owner=0)
        for number, exchange in enumerate(exchanges, start=1):
            asked = self.ids((HEAD if not exchange.sees else "") + exchange.question + TURN)
            answer = [*self.ids(exchange.answer), *self.ids(END)]
            if len(row.ids) + len(asked) + len(answer) > ROOM:
                continue
            first = len(self._prefix) if exchange.sees else 0
            row.add([*asked, *answer], first, owner=number, alone=not exchange.sees)
            row.learn(answer, self._weights(answer, exchange, colour_weight))
        return row

    def _weights(self, answer: list[int], exchange: Exchange, colour_weight: float) -> list[float]:
        known = dict.fromkeys(COLOUR_WORDS, colour_weight) if exchange.is_text else WEIGHTS
        return [known.get(self._tokenizer.decode([token]), 1.0) for token in answer]


def _visibility(owner_BT: Tensor, alone_BT: Tensor) -> Tensor:
    """[B, 1, T, T], True where the row's token may look: backwards, at its own exchange and at the picture."""
    length = owner_BT.shape[1]
    causal_TT = torch.ones(length, length, dtype=torch.bool).tril()
    same = owner_BT[:, :, None] == owner_BT[:, None, :]
    picture = (owner_BT == 0)[:, None, :] & ~alone_BT[:, :, None]
    # Padding (owner -1) sees itself, so that no softmax is empty.
    return ((same | picture) & causal_TT)[:, None]


def hidden(model: Any, packer: Packer, packed: Packed, features_BPD: Tensor) -> Tensor:
    """Last hidden states [B, T, D] of SmolVLM's language model over packed rows, behind visual tokens."""
    embedded = model.get_input_embeddings()(packed.ids_BT)
    where = (packed.ids_BT == packer.image)[..., None]
    embedded = embedded.masked_scatter(where, features_BPD.to(embedded.dtype).flatten(0, 1))
    given = {"attention_mask": packed.sees_B1TT, "position_ids": packed.positions_BT, "use_cache": False}
    return model.model.text_model(inputs_embeds=embedded, **given).last_hidden_state


def packed_loss(model: Any, packer: Packer, packed: Packed, features_BPD: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the answers; logits are made only where something is to be learnt."""
    learnt = packed.targets_BT != -100
    logits = model.lm_head(hidden(model, packer, packed, features_BPD)[learnt]).float()
    each = torch.nn.functional.cross_entropy(logits, packed.targets_BT[learnt], reduction="none")
    weights = packed.weights_BT[learnt]
    return (each * weights).sum() / weights.sum()
