"""When each row of a batch stops writing: its own length limit, its own stop strings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria


def first_stop(text: str, stops: Sequence[str], start: int = 0) -> int | None:
    """Where ``text`` is cut: right after the first stop string that ends beyond ``start``; None if there is none."""
    found = [(text.find(stop, max(0, start - len(stop) + 1)), len(stop)) for stop in stops if stop]
    return min((at + length for at, length in found if at >= 0), default=None)


class Endings(StoppingCriteria):
    """Ends row b after ``limits[b]`` new tokens, or when a new token completes one of ``stops[b]``.

    Args:
        tokenizer: To read the last few tokens of a row.
        stops: Stop strings per row.
        limits: Most new tokens per row.
        prompt_length: Tokens before the first new one, padding included.
        eos_ids: Rows that wrote one of these are read no more.
    """

    def __init__(
        self,
        tokenizer: Any,
        stops: Sequence[Sequence[str]],
        limits: Sequence[int],
        prompt_length: int,
        eos_ids: Collection[int] = (),
    ) -> None:
        self._tokenizer, self._stops, self._eos = tokenizer, stops, set(eos_ids)
        self._limits, self._prompt_length = list(limits), prompt_length
        self._open = [row for row, strings in enumerate(stops) if strings]
        self.stopped: dict[int, int] = {}
        """New tokens of each row that met a stop string."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Bool [B]: which rows are over."""
        new = input_ids.shape[1] - self._prompt_length
        if self._open:
            recent = input_ids[:, -self._window() :].tolist()
            for row in list(self._open):
                if recent[row][-1] in self._eos:
                    self._open.remove(row)
                elif self._completes(recent[row], self._stops[row]):
                    self.stopped[row] = new
                    self._open.remove(row)
        over = [row in self.stopped or new >= limit for row, limit in enumerate(self._limits)]
        return torch.tensor(over, device=input_ids.device)

    def length(self, row: int) -> int:
        """New tokens of this row at most: those that follow are padding."""
        return self.stopped.get(row, self._limits[row])

    def _window(self) -> int:
        # a character may take four tokens, one per byte
        return 4 * max(len(stop) for row in self._open for stop in self._stops[row]) + 4

    def _completes(self, recent: list[int], stops: Sequence[str]) -> bool:
        before, text = self._tokenizer.batch_decode(
            [recent[:-1], recent], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return first_stop(text, stops, start=len(before)) is not None
