"""Many exchanges behind one picture in one row: each sees the picture and itself, never its neighbours.

The same tokens at the same positions as one chat per exchange, at a fraction of the cost.
Legend: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlm_selfalign.pretrain.tasks import Branch
from vlm_selfalign.pretrain.tokens import ASSISTANT, END, IMAGE, SYSTEM, USER, VIDEO, VISION_END, VISION_START

GRID = 4
"""Visual tokens per side; a picture takes as many positions, however many tokens it has."""


@dataclass(frozen=True)
class Head:
    """What the exchanges of a row are about: a picture, a clip of so many ``slots`` (pairs of frames), or a text."""

    slots: int = 0
    text: str = ""


PICTURE = Head()


@dataclass(frozen=True)
class Packed:
    """A batch: token ids, positions (temporal, height, width), who sees whom, and what to learn how much."""

    ids_BT: Tensor
    positions_3BT: Tensor
    sees_B1TT: Tensor
    targets_BT: Tensor
    """The token that comes next, or -100."""
    weights_BT: Tensor
    exchange_BT: Tensor
    """Which exchange that sees what its row is about a token belongs to, question and answer alike; 0 for none."""


class Packer:
    """Turns exchanges into rows; remembers the ids of texts it has seen."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        names = (SYSTEM, USER, ASSISTANT, END, IMAGE, VIDEO)
        self.system, self.user, self.assistant, self.end, self.image, self.video = map(self.token, names)
        picture = [self.token(VISION_START), *[self.image] * GRID**2, self.token(VISION_END)]
        self.prefix = [self.user, *picture]
        self.pad: int = tokenizer.pad_token_id  # type: ignore[assignment]

    def token(self, name: str) -> int:
        """The id of a special token."""
        return int(self._tokenizer.convert_tokens_to_ids(name))  # type: ignore[arg-type]

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        if text not in self._known:
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._known[text]

    def pack(self, rows: Sequence[Sequence[Branch]], systems: Sequence[str] = (), heads: Sequence[Head] = ()) -> Packed:
        """One row per picture, its exchanges one after the other; ``systems`` are the rows' system turns, if any.

        ``heads`` say what a row's exchanges are about, where it is not a picture.
        """
        systems, heads = systems or [""] * len(rows), heads or [PICTURE] * len(rows)
        laid = [self._row(*parts) for parts in zip(rows, systems, heads, strict=True)]
        longest = max(len(row.ids) for row in laid)
        size = (len(rows), longest)
        ids_BT = torch.full(size, self.pad)
        owner_BT = torch.full(size, -1)
        blind_BT = torch.zeros(size, dtype=torch.bool)
        positions_3BT = torch.zeros((3, *size), dtype=torch.long)
        targets_BT = torch.full(size, -100)
        weights_BT = torch.zeros(size)
        for b, row in enumerate(laid):
            here = slice(0, len(row.ids))
            ids_BT[b, here] = torch.tensor(row.ids)
            owner_BT[b, here] = torch.tensor(row.owner)
            blind_BT[b, here] = torch.tensor(row.blind)
            positions_3BT[:, b, here] = torch.tensor(row.positions).T
            targets_BT[b, here] = torch.tensor(row.targets)
            weights_BT[b, here] = torch.tensor(row.weights)
        exchange_BT = owner_BT.clamp(min=0).masked_fill(blind_BT, 0)
        return Packed(ids_BT, positions_3BT, _visibility(owner_BT, blind_BT), targets_BT, weights_BT, exchange_BT)

    def _row(self, branches: Sequence[Branch], system: str, head: Head) -> _Row:
        row = _Row()
        told = [self.system, *self.ids(system)] if system else []
        ids, positions = self._shown(head, len(told))
        row.add([*told, *ids], [*map(_straight, range(len(told))), *positions], owner=0, blind=False)
        after = positions[-1][1] + 1
        for number, branch in enumerate(branches, start=1):
            asked, answer = self._asked(branch), [*self.ids(branch.answer), self.end]
            first = after if branch.sees else 0
            steps = [_straight(first + i) for i in range(len(asked) + len(answer))]
            row.add([*asked, *answer], steps, owner=number, blind=not branch.sees)
            row.learn(answer, branch.end_weight, branch.weight)
        return row

    def _shown(self, head: Head, at: int) -> tuple[list[int], list[Position]]:
        """Ids and positions of a user turn's beginning: what all exchanges of a row are about."""
        if head.text:
            ids = [self.user, *self.ids(head.text)]
            return ids, [_straight(at + i) for i in range(len(ids))]
        start = at + 2
        cells = [
            (start + slot, start + cell // GRID, start + cell % GRID)
            for slot in range(head.slots or 1)
            for cell in range(GRID**2)
        ]
        before, after = self.prefix[:2], self.prefix[-1]
        ids = [*before, *[self.video if head.slots else self.image] * len(cells), after]
        # As in the model: what follows goes on after the picture's height and width, however long a clip is.
        return ids, [_straight(at), _straight(at + 1), *cells, _straight(start + GRID)]

    def _asked(self, branch: Branch) -> list[int]:
        ids = [] if branch.sees else [self.user]
        for question, answer in branch.before:
            ids += [*self.ids(question), self.assistant, *self.ids(answer), self.end, self.user]
        return [*ids, *self.ids(branch.question), self.assistant]


Position = tuple[int, int, int]


def _straight(place: int) -> Position:
    return (place, place, place)


class _Row:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[Position] = []
        self.owner: list[int] = []
        self.blind: list[bool] = []
        self.targets: list[int] = []
        self.weights: list[float] = []

    def add(self, ids: list[int], positions: list[Position], owner: int, blind: bool) -> None:
        self.ids += ids
        self.positions += positions
        self.owner += [owner] * len(ids)
        self.blind += [blind] * len(ids)
        self.targets += [-100] * len(ids)
        self.weights += [0.0] * len(ids)

    def learn(self, answer: list[int], end_weight: float, weight: float = 1.0) -> None:
        """The last ``len(answer)`` tokens are targets, each of the token before it."""
        here = slice(len(self.ids) - len(answer) - 1, len(self.ids) - 1)
        self.targets[here] = answer
        self.weights[here] = [weight] * (len(answer) - 1) + [end_weight]


def _visibility(owner_BT: Tensor, blind_BT: Tensor) -> Tensor:
    """[B, 1, T, T], True where the row's token may look: backwards, at its own exchange and at the picture."""
    length = owner_BT.shape[1]
    causal_TT = torch.ones(length, length, dtype=torch.bool).tril()
    same = owner_BT[:, :, None] == owner_BT[:, None, :]
    picture = (owner_BT == 0)[:, None, :] & ~blind_BT[:, :, None]
    # Padding (owner -1) sees itself, so that no softmax is empty.
    return ((same | picture) & causal_TT)[:, None]
