"""One text of a row as tokens: encoded once, its pictures' tensors kept while memory allows.

Texts are encoded one by one and put together here, so that rows with and without pictures, and of any number of
pictures, may share a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Span
from vlm_selfalign.models.encode import Answer, Encoder
from vlm_selfalign.models.looks import PER_TOKEN, EncodingError, joined

OPEN_PICTURES = 16
"""Decoded pictures kept at hand: the texts of a row, and rows of one sample, show the same one."""


@dataclass(frozen=True)
class Text:
    """A prompt with its answer: token ids, which are scored, and which of those lie in the row's spans."""

    prompt: Prompt
    answer: str
    ends: bool
    ids: tuple[int, ...]
    scored: int
    """The last ``scored`` tokens are the answer's."""
    in_span: tuple[bool, ...]
    """Of the scored tokens."""
    kinds: Mapping[str, tuple[int, ...]]

    @property
    def known_by(self) -> tuple[object, ...]:
        """What it says and shows: rows may hold the same text, one as chosen and one as rejected."""
        return self.ids, self.scored, self.prompt.media


def start_of(ids: Sequence[int], opening: tuple[int, ...]) -> int:
    """Where the last ``opening`` in a text begins; -1 without one."""
    places = range(len(ids) - len(opening), -1, -1)
    return next((at for at in places if tuple(ids[at : at + len(opening)]) == opening), -1)


def tokens_in_spans(offsets: Sequence[Span], spans: Sequence[Span], length: int) -> tuple[bool, ...]:
    """Which tokens share a character with a span.

    The end token counts as the character after the last (``length``): a span that reaches past the answer holds it.
    """
    ranges = [(start, end + (start == end == length)) for start, end in offsets]
    return tuple(any(start < b and end > a for a, b in spans) for start, end in ranges)


class Texts:
    """Encodes texts and puts encoded ones together into padded model inputs.

    With an ``opening`` the adapter acts from a text's last one on, and a text is refused where that is not the one
    its answer stands behind.
    """

    def __init__(self, encoder: Encoder, keep_bytes: int = 1 << 30, opening: tuple[int, ...] = ()) -> None:
        self.encoder, self.opening = encoder, opening
        self._media: dict[tuple[Media, ...], dict[str, Tensor]] = {}
        self._room = keep_bytes
        self._open: dict[Media, Image.Image] = {}

    def encode(self, prompt: Prompt, answer: str, ends: bool, spans: Sequence[Span] | None) -> Text:
        """One text; ``spans`` None means that the whole answer counts. Raises what ``Encoder.batch`` raises."""
        inputs, found = self._encoded(prompt, answer, ends)
        self._keep(prompt.media, inputs)
        inside = (True,) * len(found.ids) if spans is None else tokens_in_spans(found.offsets, spans, len(answer))
        kinds = {name: tuple(inputs[name][0].tolist()) for name in PER_TOKEN if name in inputs}
        ids = tuple(inputs["input_ids"][0].tolist())
        if self.opening and not 0 <= start_of(ids, self.opening) <= len(ids) - len(found.ids) - len(self.opening):
            raise EncodingError("the answer does not stand behind the opening that its adapter acts from")
        return Text(prompt, answer, ends, ids, len(found.ids), inside, kinds)

    def inputs(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """Model inputs, right padded: ``input_ids`` and ``attention_mask`` [N, T], and the pictures in order."""
        made = self.padded(texts)
        for name in PER_TOKEN:
            if any(name in text.kinds for text in texts):
                made[name] = pad_right([text.kinds.get(name, (0,) * len(text.ids)) for text in texts], 0)
        return made | joined([self.media_of(text) for text in texts if text.prompt.media])

    def padded(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """Of these inputs the ``input_ids`` and ``attention_mask`` alone."""
        return {
            "input_ids": pad_right([text.ids for text in texts], self.encoder.tokenizer.pad_token_id),
            "attention_mask": pad_right([(1,) * len(text.ids) for text in texts], 0),
        }

    def media_of(self, text: Text) -> dict[str, Tensor]:
        """The tensors of a text's pictures, by the processor's names."""
        kept = self._media.get(text.prompt.media)
        if kept is None:
            kept = _media_inputs(self._encoded(text.prompt, text.answer, text.ends)[0])
        return kept

    def _encoded(self, prompt: Prompt, answer: str, ends: bool) -> tuple[dict[str, Tensor], Answer]:
        if len(self._open) > OPEN_PICTURES:
            self._open.clear()
        batch = self.encoder.batch([prompt], [(answer, ends)], side="right", known=self._open)
        return batch.inputs, batch.answers[0]

    def _keep(self, media: tuple[Media, ...], inputs: Mapping[str, Tensor]) -> None:
        if not media or media in self._media:
            return
        tensors = _media_inputs(inputs)
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size <= self._room:
            self._media[media] = tensors
            self._room -= size


def pad_right(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """``[N, T]`` integers."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *(value,) * (width - len(row))] for row in rows])


def _media_inputs(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    apart = ("input_ids", "attention_mask", *PER_TOKEN)
    return {name: tensor for name, tensor in inputs.items() if name not in apart}
