"""The ways to write one short answer: ``Yes``, `` Yes``, ``yes``, ... count as the same choice."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.models.encode import Encoder


def surface_forms(encoder: Encoder, prompt: Prompt, choice: str) -> list[tuple[int, ...]]:
    """Token sequences that write ``choice`` after this prompt, no two of which can come true together.

    With and without a leading space; as given, lower case, upper case, capitalised. A form that only goes on from
    another adds nothing to it, and one with an unknown token would stand for any word: both are left out.
    """
    cased = dict.fromkeys([choice, choice.lower(), choice.upper(), choice[:1].upper() + choice[1:]])
    written = dict.fromkeys(
        encoder.encode_answer(prompt, lead + form, ends=False).ids for form in cased for lead in ("", " ")
    )
    unknown = encoder.tokenizer.unk_token_id
    possible = [ids for ids in written if ids and unknown not in ids]
    return [ids for ids in possible if not any(_goes_on(ids, other) for other in possible)]


def merged(logprobs: Iterable[float]) -> float:
    """Log of the summed probabilities; -inf of nothing."""
    values = list(logprobs)
    return torch.tensor(values, dtype=torch.float64).logsumexp(dim=0).item() if values else -torch.inf


def _goes_on(ids: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(other) < len(ids) and ids[: len(other)] == other
