"""Prompts and answers to the tensors a model reads, the same for answering, scoring and training.

::

    encoder = Encoder.of(loaded)
    batch = encoder.batch([prompt, other])                                   # left padded, to generate from
    batch = encoder.batch(prompts, answers=[(text, ends), ...], side="right")  # to score or learn
    logits = model(**batch.inputs).logits; batch.answer_mask()

A prompt and its answer are tokenised as one text, so an answer has the tokens that writing it would have given; a
token that begins in the opening and ends in the answer belongs to the answer. Shapes: B rows, T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Message, Prompt
from vlm_selfalign.media.image import load_image
from vlm_selfalign.models.load import Loaded

_PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
_MARK = "MARKED"


class EncodingError(ValueError):
    """One prompt cannot be turned into model inputs; the reason says why."""


@dataclass(frozen=True)
class Answer:
    """An answer's tokens. ``offsets[i]`` are the characters of the answer that token i covers, the part of a token
    that lies before the answer cut off; the end token's are (length, length).
    """

    ids: tuple[int, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()


@dataclass
class Batch:
    """Model inputs of B prompts, padded to T tokens on ``side``; ``answers[b]`` are the last tokens of row b."""

    inputs: dict[str, torch.Tensor]
    lengths: list[int]
    """Tokens of each row, padding excluded."""
    side: Literal["left", "right"]
    answers: list[Answer] = field(default_factory=list)

    def answer_mask(self) -> torch.Tensor:
        """Bool [B, T]: which tokens are the answer's."""
        mask = torch.zeros_like(self.inputs["input_ids"], dtype=torch.bool)
        for row, answer in enumerate(self.answers):
            end = mask.shape[1] if self.side == "left" else self.lengths[row]
            mask[row, end - len(answer.ids) : end] = True
        return mask

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """On a device, pixels in the model's precision."""
        moved = {k: v.to(device, dtype if v.is_floating_point() else None) for k, v in self.inputs.items()}
        return Batch(moved, self.lengths, self.side, self.answers)


class Encoder:
    """A processor, and what its chat template says about where answers begin and end."""

    end_id: int
    """Ends an assistant's turn: what the chat template writes there, and generation stops at."""
    gap: str
    """White space that the template puts between its prompt and an answer (``ASSISTANT: Yes``)."""

    def __init__(
        self,
        processor: Any,
        tokenizer: Any,
        is_vision: bool,
        eos_ids: Sequence[int] = (),
        max_pixels: int | None = None,
    ) -> None:
        self.processor, self.tokenizer, self.is_vision = processor, tokenizer, is_vision
        self.max_pixels = max_pixels
        self._special = re.compile("|".join(map(re.escape, _special_tokens(tokenizer))) or r"(?!)")
        self._texts: dict[Any, str] = {}
        self.gap, self.end_id = self._turn(eos_ids)
        self._tokenised = lru_cache(maxsize=4096)(self._tokenise)

    @classmethod
    def of(cls, loaded: Loaded) -> Encoder:
        """The encoder of a loaded model."""
        return cls(loaded.processor, loaded.tokenizer, loaded.is_vision, eos_ids(loaded), loaded.max_pixels)

    def text(self, prompt: Prompt) -> str:
        """The prompt as the model reads it, media as placeholders, up to and including the opening."""
        return self._whole(prompt, "")

    def pictures(self, prompt: Prompt, known: dict[Media, Image.Image] | None = None) -> list[Image.Image]:
        """The prompt's pictures, views applied. ``known`` keeps each from being opened twice.

        Raises ``MediaError`` for a picture that cannot be used, ``UserError`` when the model takes none.
        """
        if prompt.media and not self.is_vision:
            raise UserError("this model takes no images: choose a vision-language model, or prompts without media")
        known = {} if known is None else known
        for media in prompt.media:
            if media not in known:
                known[media] = self._sized(load_image(media, draft_pixels=self.max_pixels))
        return [known[media] for media in prompt.media]

    def encode_answer(self, prompt: Prompt, answer: str, ends: bool = True) -> Answer:
        """The answer's tokens after this prompt and its opening, and the characters each covers.

        A token belongs to the answer if it ends after the answer's first character begins. ``ends`` adds the end
        token. An empty answer has the end token only, or nothing.
        """
        start = self._rendered(prompt)
        ids, offsets = self._after(start, prompt.opening, answer)
        if ends:
            ids, offsets = (*ids, self.end_id), (*offsets, (len(answer), len(answer)))
        return Answer(ids, offsets)

    def batch(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[tuple[str, bool]] | None = None,
        continued: Sequence[Sequence[int]] | None = None,
        side: Literal["left", "right"] = "left",
        known: dict[Media, Image.Image] | None = None,
    ) -> Batch:
        """Inputs for prompts with media or for prompts without (one or the other), on the CPU.

        Args:
            prompts: B prompts, all with media or all without.
            answers: For each, the answer and whether its end token follows.
            continued: For each, token ids that go on from the prompt (not together with ``answers``).
            side: Where the padding goes: ``left`` to generate, ``right`` to score or learn.
            known: Pictures opened already, by media; those opened now are added.

        Raises:
            EncodingError: A prompt that the template or the processor refuses.
            MediaError: A picture that cannot be used.
            UserError: Media for a model that takes none.
        """
        pictures = [self.pictures(prompt, known) for prompt in prompts]
        wanted = answers if answers is not None else [("", False)] * len(prompts)
        found = [self.encode_answer(p, *answer) for p, answer in zip(prompts, wanted, strict=True)]
        raw = self._processed([self._whole(p, text) for p, (text, _) in zip(prompts, wanted, strict=True)], pictures)
        rows = [ids[mask.bool()].tolist() for ids, mask in zip(raw["input_ids"], raw["attention_mask"], strict=True)]
        after = continued if continued is not None else [()] * len(prompts)
        for row, answer, (_, ends), more in zip(rows, found, wanted, after, strict=True):
            row.extend([self.end_id] if ends else [])
            row.extend(more)
            if answer.ids and row[-len(answer.ids) :] != list(answer.ids):
                raise EncodingError(
                    "the answer's tokens differ when read with its pictures (special tokens in a text?)"
                )
        return self._padded(raw, rows, side, found)

    def decode_after(self, before: int, ids: Sequence[int]) -> str:
        """The text that ``ids`` add after the token ``before``; special tokens leave no trace.

        Decoding alone would lose a leading space with some tokenizers, which is why a token must come before.
        """
        special = set(self.tokenizer.all_special_ids)
        plain = [i for i in ids if i not in special]
        alone, both = self.tokenizer.batch_decode([[before], [before, *plain]], clean_up_tokenization_spaces=False)
        return both[len(alone) :] if both.startswith(alone) else self.tokenizer.decode(plain)

    def _whole(self, prompt: Prompt, answer: str) -> str:
        start = self._rendered(prompt)
        return start + self.gap + prompt.opening + answer if prompt.opening or answer else start

    def _rendered(self, prompt: Prompt) -> str:
        # The template sees no pixels: one question about a thousand pictures is rendered once
        key = (prompt.messages, tuple(media.kind for media in prompt.media))
        if key not in self._texts:
            if len(self._texts) >= 4096:
                self._texts.clear()
            self._texts[key] = self._render(prompt)
        return self._texts[key]

    def _render(self, prompt: Prompt) -> str:
        chat = prompt.chat()
        if not self.is_vision:  # text models' templates expect a string
            chat = [{"role": m.role, "content": m.text} for m in prompt.messages]
        try:
            return self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError) as error:
            raise EncodingError(f"the chat template refuses the prompt: {_line(error)}") from None

    def _after(self, start: str, opening: str, answer: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        if not answer:
            return (), ()
        # Special tokens cut a text before it is tokenised, so what comes before the last one has no influence
        last = [found.start() for found in self._special.finditer(start)]
        tail = start[last[-1] :] if last else start
        return self._tokenised(tail, opening, answer)

    def _tokenise(self, tail: str, opening: str, answer: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        lead = tail + self.gap + opening
        # Without an opening the gap is the model's own to write: it belongs to the answer's first token
        boundary = len(lead) if opening else len(tail)
        coded = self.tokenizer(lead + answer, return_offsets_mapping=True, add_special_tokens=False)
        spans = coded["offset_mapping"]
        first = next((i for i, (_, end) in enumerate(spans) if end > boundary), len(spans))
        offsets = tuple((max(0, s - len(lead)), max(0, e - len(lead))) for s, e in spans[first:])
        return tuple(coded["input_ids"][first:]), offsets

    def _processed(self, texts: list[str], pictures: list[list[Image.Image]]) -> Mapping[str, Any]:
        bos = self.tokenizer.bos_token
        # as transformers does: a template that writes the begin token itself must not get a second one
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        options["add_special_tokens"] = not (bos and texts[0].startswith(bos))
        try:
            if any(pictures):
                return self.processor(text=texts, images=pictures, **options)
            if self.is_vision:
                return self.processor(text=texts, **options)
            return self.tokenizer(texts, **options)
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            raise EncodingError(f"the processor refuses the prompt: {_line(error)}") from None

    def _padded(self, raw: Mapping[str, Any], rows: list[list[int]], side: Any, answers: list[Answer]) -> Batch:
        inputs = {k: v for k, v in raw.items() if isinstance(v, torch.Tensor)}
        lengths = [len(row) for row in rows]
        for key in _PER_TOKEN:
            if key in inputs:
                kinds = [v[m.bool()].tolist() for v, m in zip(inputs[key], raw["attention_mask"], strict=True)]
                full = [kind + [0] * (n - len(kind)) for kind, n in zip(kinds, lengths, strict=True)]
                inputs[key] = _pad(full, 0, side)
        inputs["input_ids"] = _pad(rows, self.tokenizer.pad_token_id, side)
        inputs["attention_mask"] = _pad([[1] * n for n in lengths], 0, side)
        return Batch(inputs, lengths, side, answers)

    def _turn(self, eos: Sequence[int]) -> tuple[str, int]:
        asked = Prompt.user("Hello.")
        start = self._rendered(asked)
        both = (*asked.messages, Message(role="assistant", parts=(_MARK,)))
        chat = Prompt(messages=both).chat() if self.is_vision else [{"role": m.role, "content": m.text} for m in both]
        finished = self.processor.apply_chat_template(chat, tokenize=False)
        before, found, after = finished.rpartition(_MARK)
        if not found:
            raise UserError("the chat template does not show what the assistant said; it cannot be used")
        gap = before[len(start) :] if before.startswith(start) and not before[len(start) :].strip() else ""
        closing = self.tokenizer(after.lstrip(), add_special_tokens=False)["input_ids"]
        if closing and closing[0] in {*self.tokenizer.all_special_ids, *eos}:
            return gap, closing[0]
        if eos:  # a template that closes no turn, as LLaVA-1.5's
            return gap, eos[0]
        raise UserError("neither the chat template nor the generation config says which token ends an answer")

    def _sized(self, picture: Image.Image) -> Image.Image:
        if self.max_pixels is None or picture.width * picture.height <= self.max_pixels:
            return picture
        shrink = (self.max_pixels / (picture.width * picture.height)) ** 0.5
        size = (max(1, int(picture.width * shrink)), max(1, int(picture.height * shrink)))
        return picture.resize(size, Image.Resampling.BICUBIC)


def eos_ids(loaded: Loaded) -> list[int]:
    """The tokens that end generation by the model's own settings."""
    found = loaded.model.generation_config.eos_token_id
    found = loaded.tokenizer.eos_token_id if found is None else found
    return [] if found is None else list(found) if isinstance(found, (list, tuple)) else [found]


def _special_tokens(tokenizer: Any) -> list[str]:
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)


def _pad(rows: Sequence[Sequence[int]], value: int, side: Literal["left", "right"]) -> torch.Tensor:
    width = max(len(row) for row in rows)
    if side == "left":
        return torch.tensor([[value] * (width - len(row)) + list(row) for row in rows])
    return torch.tensor([list(row) + [value] * (width - len(row)) for row in rows])


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
