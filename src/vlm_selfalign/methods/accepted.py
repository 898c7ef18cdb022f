"""What is left of candidates: pairs that passed every guard; the others are counted, each with its reason.

A method with several candidates per sample gives back a ``Pair`` for each that passed and ``refused(...)`` for each
that did not. A refused candidate is no pair, so no preference loss can take it for one::

    candidates: {method: videosavi}
    pairs:      {fold: accepted, rows: candidates}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.registry import fold
from vlm_selfalign.core.rows import BaseRow, Labelled, Pair
from vlm_selfalign.core.spans import differing_spans
from vlm_selfalign.core.stages import Shaped
from vlm_selfalign.scoring.rewrites import changed_share


def refused(prompt: Prompt, answer: str, reason: str, **notes: Any) -> Labelled:
    """A candidate that became no pair, and why (``judgment``)."""
    return Labelled(prompt=prompt, answer=answer, label=0.0, judgment=reason, notes=notes)


@fold
def accepted() -> Callable[[Iterable[BaseRow]], Shaped]:
    """The pairs among candidates; the others counted by the reason they were refused for."""

    def run(rows: Iterable[BaseRow]) -> Shaped:
        pairs, reasons = _parted(rows)
        return Shaped(pairs, reasons)

    return run


@fold
def key_phrases(most_changed: float = 0.5) -> Callable[[Iterable[BaseRow]], Shaped]:
    """The same with spans: the words in which the answers of a pair differ, by alignment (Sarkar et al. 2025, RRPO).

    ``most_changed``: pairs that differ in a larger share of their words share no sentence frame; spans would cover
    everything, and RRPO would be DPO. An answer of one to three words may differ in all of them.
    Pairs whose spans vanish (both sides say the same words) are counted.
    """

    def run(rows: Iterable[BaseRow]) -> Shaped:
        pairs, reasons = _parted(rows)
        kept = []
        for pair in pairs:
            chosen_spans, rejected_spans = differing_spans(pair.chosen, pair.rejected)
            if not chosen_spans and not rejected_spans:
                reasons["spans vanished: both answers are the same words"] += 1
            elif _is_long(pair) and changed_share(pair.chosen, pair.rejected) > most_changed:
                reasons[f"more than {most_changed:.0%} of the words differ"] += 1
            else:
                kept.append(pair.model_copy(update={"chosen_spans": chosen_spans, "rejected_spans": rejected_spans}))
        return Shaped(kept, reasons)

    return run


def _is_long(pair: Pair) -> bool:
    return max(len(pair.chosen.split()), len(pair.rejected.split())) > 3


def _parted(rows: Iterable[BaseRow]) -> tuple[list[Pair], Counter[str]]:
    pairs: list[Pair] = []
    reasons: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, Pair):
            pairs.append(row)
        else:
            reasons[getattr(row, "judgment", None) or "no pair"] += 1
    return pairs, reasons
