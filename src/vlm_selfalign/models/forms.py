"""The ways to write one short answer: ``Yes``, `` Yes``, ``yes``, ... count as the same choice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.models.encode import Encoder

Ids = tuple[int, ...]

_NEGLIGIBLE = 11.5
"""A form is not followed further once it is at most e**-11.5 as likely as all choices together: what it could add to
any probability is about 1e-5 at most."""


def surface_forms(encoder: Encoder, prompt: Prompt, choice: str) -> list[Ids]:
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


class FormTree:
    """Log-probs of several choices, grown token by token and only where it can matter.

    ::

        while prefixes := tree.open():
            for prefix in prefixes:
                tree.grow(prefix, next_token_logprobs_after(prefix))
        tree.logprobs()
    """

    def __init__(self, forms: Sequence[Sequence[Ids]]) -> None:
        self.forms = forms
        self._known: dict[Ids, float] = {(): 0.0}

    def open(self) -> list[Ids]:
        """Beginnings of forms, () first, after which the next token's distribution is wanted."""
        wanted: dict[Ids, None] = {}
        floor = merged(self.logprobs()) - _NEGLIGIBLE
        for forms, so_far in zip(self.forms, self.logprobs(), strict=True):
            for form in forms:
                begun = next(form[:n] for n in range(len(form), -1, -1) if form[:n] in self._known)
                # A choice of which nothing is known yet is followed all the same: it must get some number
                if begun != form and (self._known[begun] > floor or so_far == -math.inf):
                    wanted[begun] = None
        return list(wanted)

    def grow(self, prefix: Ids, logp_V: torch.Tensor) -> None:
        """Take in the log-probs [V] of the token after ``prefix``."""
        for form in (form for forms in self.forms for form in forms if _goes_on(form, prefix)):
            self._known[form[: len(prefix) + 1]] = self._known[prefix] + logp_V[form[len(prefix)]].item()

    def logprobs(self) -> list[float]:
        """Per choice, over its forms known so far."""
        return [merged(self._known[form] for form in forms if form in self._known) for forms in self.forms]


def merged(logprobs: Iterable[float]) -> float:
    """Log of the summed probabilities; -inf of nothing."""
    values = list(logprobs)
    top = max(values, default=-math.inf)
    if any(math.isnan(value) for value in values):
        return math.nan
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(value - top) for value in values))


def _goes_on(ids: Ids, other: Ids) -> bool:
    return len(other) < len(ids) and ids[: len(other)] == other
