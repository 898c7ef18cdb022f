"""Prompts and answers to the tensors a model reads, the same for answering, scoring and training.

::

    encoder = Encoder.of(loaded)
    batch = encoder.batch([prompt, other])                                   # left padded, to generate from
    batch = encoder.batch(prompts, answers=[(text, ends), ...], side="right")  # to score or learn
    logits = model(**batch.inputs).logits; batch.answer_mask()

A prompt and its answer are tokenised as one text, so an answer has the tokens that writing it would have given; a
token that begins in the opening and ends in the answer belongs to the answer. Rows with pictures, with clips and with
words alone may share a batch. Shapes: B rows, T tokens.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

import torch
from jinja2 import TemplateError

from vlm_selfalign.config import MediaSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Message, Prompt
from vlm_selfalign.models.families import placeholder_ids
from vlm_selfalign.models.load import Loaded
from vlm_selfalign.models.looks import PER_TOKEN, EncodingError, Look, Looks, first_line, joined
from vlm_selfalign.models.shown import Shown, less, load_shown

__all__ = ["Answer", "Batch", "Encoder", "EncodingError", "eos_ids"]

log = logging.getLogger(__name__)

_MARK = "MARKED"
_SHRINKINGS = 8


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
    looks: list[Look] = field(default_factory=list)
    """What the rows show, in their order, where ``inputs`` hold no pixels; rows that show the same share one."""

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
        return Batch(moved, self.lengths, self.side, self.answers, self.looks)


@dataclass
class _Rows:
    """Some rows of a batch before they are padded."""

    ids: list[list[int]]
    kinds: dict[str, list[list[int]]] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


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
        media: MediaSettings | None = None,
        placeholders: Sequence[int] = (),
    ) -> None:
        self.processor, self.tokenizer, self.is_vision = processor, tokenizer, is_vision
        self.media = media or MediaSettings()
        self.placeholders = set(placeholders)
        """Ids of the tokens that features take the place of."""
        self._looks = Looks(processor, tokenizer, placeholders)
        self._special = re.compile("|".join(map(re.escape, _special_tokens(tokenizer))) or r"(?!)")
        self._texts: dict[Any, str] = {}
        self._said_shrunk = False
        self.gap, self.end_id = self._turn(eos_ids)
        self._tokenised = lru_cache(maxsize=4096)(self._tokenise)

    @classmethod
    def of(cls, loaded: Loaded) -> Encoder:
        """The encoder of a loaded model."""
        ids = placeholder_ids(loaded.model) if loaded.is_vision else ()
        return cls(loaded.processor, loaded.tokenizer, loaded.is_vision, eos_ids(loaded), loaded.media, ids)

    def text(self, prompt: Prompt) -> str:
        """The prompt as the model reads it, media as placeholders, up to and including the opening."""
        return self._whole(prompt, "")

    def shown(self, prompt: Prompt, known: dict[Any, Any] | None = None) -> list[Shown]:
        """The prompt's pictures and clips, views applied. ``known`` keeps each from being opened twice.

        Raises ``MediaError`` for one that cannot be used, ``UserError`` when the model takes none.
        """
        if prompt.media and not self.is_vision:
            raise UserError("this model takes no images or clips: choose a vision-language model, or prompts of words")
        known = {} if known is None else known
        for media in prompt.media:
            if media not in known:
                known[media] = load_shown(media, self.media)
        return [known[media] for media in prompt.media]

    def look(self, prompt: Prompt, known: dict[Any, Any] | None = None) -> Look:
        """What the prompt shows as tensors, within the budget of visual tokens.

        Raises ``EncodingError`` over budget, and what ``shown`` raises.
        """
        known = {} if known is None else known
        if prompt.media not in known:
            known[prompt.media] = self._fitting(self.shown(prompt, known))
        return known[prompt.media]

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
        known: dict[Any, Any] | None = None,
        apart: bool = False,
    ) -> Batch:
        """Inputs for prompts with pictures, clips or neither, on the CPU.

        Args:
            prompts: B prompts.
            answers: For each, the answer and whether its end token follows.
            continued: For each, token ids that go on from the prompt (not together with ``answers``).
            side: Where the padding goes: ``left`` to generate, ``right`` to score or learn.
            known: Pictures and clips opened already, by media, and looks; those opened now are added.
            apart: Leave pixels out of the inputs and give ``looks``, for ``vision.features_of``.

        Raises:
            EncodingError: A prompt that the template or the processor refuses, or that shows too much.
            MediaError: A picture or clip that cannot be used.
            UserError: Media for a model that takes none.
        """
        known = {} if known is None else known
        wanted = answers if answers is not None else [("", False)] * len(prompts)
        found = [self.encode_answer(p, *answer) for p, answer in zip(prompts, wanted, strict=True)]
        texts = [self._whole(p, text) for p, (text, _) in zip(prompts, wanted, strict=True)]
        parts = self._parts(prompts, texts, known, apart)
        ids = [row for part in parts for row in part.ids]
        after = continued if continued is not None else [()] * len(prompts)
        for row, answer, (_, ends), more in zip(ids, found, wanted, after, strict=True):
            row.extend([self.end_id] if ends else [])
            row.extend(more)
            if answer.ids and row[-len(answer.ids) :] != list(answer.ids):
                raise EncodingError(
                    "the answer's tokens differ when read with its pictures (special tokens in a text?)"
                )
        looks = [self.look(prompt, known) for prompt in prompts if prompt.media] if apart else []
        return Batch(self._padded(parts, side), [len(row) for row in ids], side, found, looks)

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
        clips = sum(media.kind == "video" for media in prompt.media) if self.is_vision else 0
        if clips and self._looks.video_token is None:
            raise EncodingError(f"{self._looks.family} takes no clips")
        try:
            text = self._templated(chat, self._template)
            if clips and text.count(self._looks.video_token or "") != clips:
                # SmolVLM 2's own template leaves clips out; left to itself its processor takes another one for them
                text = self._templated(chat, None)
        except (TemplateError, ValueError) as error:
            raise EncodingError(f"the chat template refuses the prompt: {first_line(error)}") from None
        if clips and text.count(self._looks.video_token or "") != clips:
            raise EncodingError("the chat template leaves clips out")
        return text

    def _templated(self, chat: list[dict[str, Any]], template: str | None) -> str:
        options = {"chat_template": template} if template else {}
        return self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)

    @property
    def _template(self) -> str | None:
        """The checkpoint's own. SmolVLM's processor replaces it for prompts with clips unless it is named."""
        own = getattr(self.processor, "chat_template", None)
        return own if isinstance(own, str) else None

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

    def _parts(
        self, prompts: Sequence[Prompt], texts: Sequence[str], known: dict[Any, Any], apart: bool
    ) -> list[_Rows]:
        """The rows in order, in as few calls of the processor as there can be."""

        def path(row: int) -> str:
            kinds = {media.kind for media in prompts[row].media}
            singly = apart or "video" in kinds or self.media.max_visual_tokens is not None
            return "words" if not kinds else "looks" if singly else "pictures"

        parts: list[_Rows] = []
        for kind, run in groupby(range(len(prompts)), path):
            rows = list(run)
            if kind == "looks":
                looks = [self.look(prompts[row], known) for row in rows]
                parts += [self._row(texts[row], look, apart) for row, look in zip(rows, looks, strict=True)]
            else:
                pictures = [self.shown(prompts[row], known) for row in rows]
                parts.append(self._processed([texts[row] for row in rows], pictures))
        return parts

    def _row(self, text: str, look: Look, apart: bool) -> _Rows:
        words = look.worded(text)
        ids = self.tokenizer(words, add_special_tokens=self._adds_special(words))["input_ids"]
        if sum(i in self.placeholders for i in ids) != look.tokens:
            raise EncodingError("a text holds the placeholder of a picture or clip")
        kinds = {name: [self._looks.token_kinds(ids)] for name in look.kinds}
        return _Rows([list(ids)], kinds, look.positional if apart else look.tensors)

    def _fitting(self, shown: Sequence[Shown]) -> Look:
        look, limit = self._looks.look(shown), self.media.max_visual_tokens
        if limit is None or look.tokens <= limit:
            return look
        for _ in range(_SHRINKINGS if self.media.shrink else 0):
            shown = less(shown, limit / look.tokens)
            look = self._looks.look(shown)
            if look.tokens <= limit:
                self._say_shrunk()
                return look
        even = "even shrunk " if self.media.shrink else ""
        raise EncodingError(f"the prompt shows too much: {even}over model.media.max_visual_tokens={limit}")

    def _say_shrunk(self) -> None:
        if not self._said_shrunk:
            limit = self.media.max_visual_tokens
            log.warning("prompts over %s visual tokens are shown fewer frames or smaller pictures", limit)
        self._said_shrunk = True

    def _adds_special(self, text: str) -> bool:
        # as transformers does: a template that writes the begin token itself must not get a second one
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))

    def _processed(self, texts: list[str], pictures: list[list[Shown]]) -> _Rows:
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        options["add_special_tokens"] = self._adds_special(texts[0])
        try:
            if any(pictures):
                raw = self.processor(text=texts, images=pictures, **options)
            elif self.is_vision:
                raw = self.processor(text=texts, **options)
            else:
                raw = self.tokenizer(texts, **options)
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            raise EncodingError(f"the processor refuses the prompt: {first_line(error)}") from None
        masks = [mask.bool() for mask in raw.pop("attention_mask")]
        tensors = {name: value for name, value in raw.items() if isinstance(value, torch.Tensor)}
        ids, *kinds = (
            [row[mask].tolist() for row, mask in zip(tensors.pop(name), masks, strict=True)]
            for name in ("input_ids", *(name for name in PER_TOKEN if name in raw))
        )
        return _Rows(ids, dict(zip([name for name in PER_TOKEN if name in raw], kinds, strict=True)), tensors)

    def _padded(self, parts: list[_Rows], side: Literal["left", "right"]) -> dict[str, torch.Tensor]:
        """Model inputs of all rows."""
        rows = [row for part in parts for row in part.ids]
        inputs = {"input_ids": _pad(rows, self.tokenizer.pad_token_id, side)}
        inputs["attention_mask"] = _pad([[1] * len(row) for row in rows], 0, side)
        for name in dict.fromkeys(name for part in parts for name in part.kinds):
            kinds = [kind for part in parts for kind in part.kinds.get(name, [[]] * len(part.ids))]
            inputs[name] = _pad(
                [kind + [0] * (len(row) - len(kind)) for kind, row in zip(kinds, rows, strict=True)], 0, side
            )
        try:
            return inputs | joined([part.tensors for part in parts])
        except (RuntimeError, ValueError) as error:
            raise EncodingError(f"these prompts cannot share a batch: {first_line(error)}") from None

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
