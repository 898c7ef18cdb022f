"""Rows to tensors, and the rows that cannot be learnt from, each with its reason.

A batch of B rows holds N = B x (texts of the loss) sequences, all first texts, then all second ones: TRL's layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vlm_selfalign.core.errors import Drop, UserError
from vlm_selfalign.core.rows import BaseRow, Demo, Pair, Span, texts
from vlm_selfalign.models.encode import EncodingError
from vlm_selfalign.train.callbacks import Progress
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.reference import ReferenceStore
from vlm_selfalign.train.scores import Loss
from vlm_selfalign.train.texts import Text, Texts, pad_right


@dataclass(frozen=True)
class Item:
    """A row that can be learnt from, with its texts encoded."""

    row: BaseRow
    texts: dict[str, Text]


@dataclass
class Dropped:
    """Why rows left: how many for each reason, and which."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: list[tuple[str, str]] = field(default_factory=list)
    """(row id, reason)."""

    def add(self, row: BaseRow, reason: str) -> None:
        """One more."""
        self.counts[reason] += 1
        self.rows.append((row.id, reason))

    def told(self) -> list[str]:
        """A line for each reason, with the first rows it befell."""
        return [
            f"{count} x {reason}: rows {_few([r for r, w in self.rows if w == reason])}"
            for reason, count in self.counts.items()
        ]

    def stop_if_all(self, items: Sequence[Item]) -> None:
        """Raises ``UserError`` when no row is left to learn from."""
        if not items:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in self.counts.most_common(3))
            raise UserError(f"no row to learn from ({reasons or 'there is none'})")


def prepare(
    rows: Sequence[BaseRow], loss: Loss, maker: Texts, max_length: int | None, progress: Progress | None = None
) -> tuple[list[Item], Dropped]:
    """Encode rows for a loss; nothing is ever cut.

    Raises ``UserError`` when a row is of a kind that the loss cannot read, or when no row is left.
    """
    items: list[Item] = []
    dropped = Dropped()
    for done, row in enumerate(rows):
        if progress:
            progress("encode", done, len(rows), {})
        _check_kind(row, loss)
        try:
            items.append(_item(row, loss, maker, max_length))
        except (Drop, EncodingError) as reason:
            dropped.add(row, str(getattr(reason, "reason", reason)))
    dropped.stop_if_all(items)
    return items, dropped


def ignored_columns(items: Sequence[Item], loss: Loss, reads_spans: bool) -> list[str]:
    """What rows say and this loss does not read, one line each."""
    plain = {"weight": 1.0, "label_prob": 1.0, "margin": 0.0}
    lines = []
    for name, value in plain.items():
        count = sum(getattr(item.row, name, value) != value for item in items)
        if count and name not in loss.columns:
            lines.append(f"{count} rows set {name}, which this loss does not read")
    spans = sum(bool(isinstance(item.row, Pair) and _has_spans(item.row)) for item in items)
    if spans and not reads_spans:
        lines.append(f"{spans} rows have spans, but this loss scores whole answers")
    return lines


def uneven_prompts(items: Sequence[Item]) -> list[str]:
    """Rows whose answers stand behind different prompt tokens, one line: where a word goes on from the opening.

    Each answer keeps the tokens that writing it would have given, and is scored behind what comes before them.
    """
    uneven = []
    for item in items:
        shown = {text.prompt.media for text in item.texts.values()}
        before = {text.ids[: len(text.ids) - text.scored] for text in item.texts.values()}
        if len(shown) == 1 and len(before) > 1:
            uneven.append(item.row.id)
    told = "whose answers begin inside the prompt's last token, each scored behind its own prompt tokens"
    return [f"{len(uneven)} rows {told}: {_few(uneven)}"] if uneven else []


@dataclass(frozen=True)
class Collator:
    """Items to a batch of tensors; what the trainer's data loader calls.

    ``inputs`` are the model's own; ``answer`` and ``span`` [N, T] mark tokens; ``reference`` [N, T-1] holds remembered
    log-probs; ``columns`` [B] the rows' numbers; ``item`` [B] which rows these are; ``kl_inputs`` and ``kl_answer`` the
    texts whose exact KL is wanted, once more for the reference. With a ``planner`` there is a ``tree`` of the texts,
    ``inputs`` is without pictures, and ``kl_hidden`` holds the reference's remembered states instead of ``kl_inputs``.
    """

    items: Sequence[Item]
    loss: Loss
    maker: Texts
    planner: Planner | None = None
    reference: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    opinions: list[ReferenceStore] = field(default_factory=list)
    """Where the reference's hidden states are; empty until they are."""

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``examples`` name items by ``item``."""
        places = [int(example["item"]) for example in examples]
        chosen = [self.items[place] for place in places]
        texts_N = [item.texts[name] for name in self.loss.texts for item in chosen]
        batch: dict[str, Any] = {
            **self.marked(texts_N),
            "item": torch.tensor(places),
            "columns": {name: _column(chosen, name) for name in self.loss.columns},
        }
        if self.reference:
            known = [self.reference[place][name] for name in self.loss.texts for place in places]
            batch["reference"] = _scattered(known, batch["answer"][:, 1:])
        if self.loss.kl_texts:
            batch |= self._for_kl([item.texts[name] for name in self.loss.kl_texts for item in chosen])
        return batch

    def counted(self, places: Sequence[int]) -> dict[str, Any]:
        """Of a batch what a loss needs to know how much it is divided by: ``answer``, ``item`` and ``columns``."""
        chosen = [self.items[place] for place in places]
        return {
            "answer": self._masks([item.texts[name] for name in self.loss.texts for item in chosen])["answer"],
            "item": torch.tensor(places),
            "columns": {name: _column(chosen, name) for name in self.loss.columns},
        }

    @cached_property
    def kl_wanted(self) -> set[object]:
        """Texts of which the reference's hidden states are wanted, wherever else they stand."""
        return {item.texts[name].known_by for item in self.items for name in self.loss.kl_texts}

    def marked(self, texts_N: Sequence[Text]) -> dict[str, Any]:
        """Model inputs of any texts, and the masks of their scored tokens and spans."""
        if self.planner is None:
            return self.plain(texts_N)
        masks = self._masks(texts_N)
        return {"inputs": self.maker.padded(texts_N), **masks, "tree": self.planner(texts_N)}

    def plain(self, texts_N: Sequence[Text]) -> dict[str, Any]:
        """The same for the plain forward, whatever the planner."""
        return {"inputs": self.maker.inputs(texts_N), **self._masks(texts_N)}

    def _for_kl(self, texts_R: Sequence[Text]) -> dict[str, Any]:
        if self.planner is not None and self.opinions:
            states = [self.opinions[0].states(text) for text in texts_R]
            known = [found for found in states if found is not None]
            if len(known) < len(states):
                raise UserError("what the reference thought of a text is gone from the disk: start the fit again")
            return {"kl_hidden": torch.cat(known)}
        again = self.marked(texts_R)
        return {"kl_inputs": again["inputs"], "kl_answer": again["answer"], "kl_tree": again.get("tree")}

    def _masks(self, texts_N: Sequence[Text]) -> dict[str, Any]:
        before = [len(text.ids) - text.scored for text in texts_N]
        answer = [(0,) * skip + (1,) * text.scored for skip, text in zip(before, texts_N, strict=True)]
        span = [(0,) * skip + tuple(map(int, text.in_span)) for skip, text in zip(before, texts_N, strict=True)]
        return {
            "answer": pad_right(answer, 0).bool(),
            "span": pad_right(span, 0).bool(),
        }


def _item(row: BaseRow, loss: Loss, maker: Texts, max_length: int | None) -> Item:
    prompts = texts(row)  # type: ignore[arg-type]
    made: dict[str, Text] = {}
    for name in loss.texts:
        prompt, answer = prompts[name]
        spans = _spans(row, name)
        text = maker.encode(prompt, answer, _ends(row, name), spans)
        _refuse_placeholders(text, maker.encoder.placeholders)
        if not text.scored:
            raise Drop("no scored token: empty answer whose end is not scored")
        if spans and not any(text.in_span):
            raise Drop("spans vanished: no token lies in them")
        if max_length is not None and len(text.ids) > max_length:
            raise Drop(f"longer than max_length={max_length} tokens")
        made[name] = text
    if len(made) > 1:
        _refuse_equal(list(made.values()))
    return Item(row, made)


def _refuse_placeholders(text: Text, placeholders: Collection[int]) -> None:
    words = text.ids[-text.scored :] if text.prompt.media and text.scored else text.ids
    if (not text.prompt.media or text.scored) and any(token in placeholders for token in words):
        raise Drop("a text holds the placeholder of a picture or clip that it does not show")


def _refuse_equal(found: Sequence[Text]) -> None:
    if len({(text.ids, text.prompt.media, text.scored) for text in found}) == 1:
        raise Drop("chosen and rejected are equal after tokenisation")
    if not any(any(text.in_span) for text in found):
        raise Drop("spans vanished: no token lies in them")


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _check_kind(row: BaseRow, loss: Loss) -> None:
    missing = [name for name in loss.texts if name not in texts(row)]  # type: ignore[arg-type]
    if missing:
        kind = type(row).__name__.lower()
        raise UserError(f"row {row.id}: a {kind} has no text '{missing[0]}', which this loss learns from")


def _ends(row: BaseRow, name: str) -> bool:
    match row:
        case Pair():
            return row.chosen_ends if name == "chosen" else row.rejected_ends
        case Demo():
            return row.ends
    return True


def _has_spans(row: Pair) -> bool:
    return bool(row.chosen_spans or row.rejected_spans)


def _spans(row: BaseRow, name: str) -> Sequence[Span] | None:
    # Spans on one side alone are an insertion: nothing of the other side differs, so none of it counts.
    if not isinstance(row, Pair) or not _has_spans(row):
        return None
    return row.chosen_spans if name == "chosen" else row.rejected_spans


def _column(items: Sequence[Item], name: str) -> Tensor:
    return torch.tensor([float(getattr(item.row, name)) for item in items])


def _scattered(values_N: Sequence[Tensor], mask_NT: Tensor) -> Tensor:
    return torch.zeros(mask_NT.shape).masked_scatter(mask_NT, torch.cat(list(values_N)))
