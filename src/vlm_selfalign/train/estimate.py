"""What a training step will hold, before anything is loaded; pure arithmetic, so that a check may ask it."""

from __future__ import annotations

import math

from vlm_selfalign.config import Schedule, TrainingSettings


def rows_at_once(training: TrainingSettings, schedule: Schedule, row: int) -> int:
    """Rows of ``row`` tokens each that go through the model at once; 0 when one alone is over ``max_tokens``."""
    share = max(1, schedule.batch_size // training.processes)
    even = math.ceil(share / math.ceil(share / training.micro_batch))
    return even if training.max_tokens is None else min(even, training.max_tokens // row)


def tokens_of_row(prompt: int, answer: int, texts: int = 2, shared: bool = True) -> int:
    """Tokens of a row with so many texts: the prompt once where it is shared, with every text where it is not.

    Args:
        prompt: Tokens of the prompt, with what it shows.
        answer: Tokens of an answer.
        texts: Answers of a row: two of a pair, one of a demo.
        shared: Whether the fast step may be used (``training.engine=auto`` and a model that takes a tree).
    """
    return prompt + texts * answer if shared else texts * (prompt + answer)
