"""A checkpoint as anybody would load it: asked about pictures, clips and texts through ``generate()``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlm_selfalign.data.world.clips.draw import draw_story
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.pretrain.rich.items import CLIP_DIALS, DIALS, Item


@dataclass(frozen=True)
class Asked:
    """One prompt: a question, what it is about (None: nothing is shown), what the answer opens with, earlier turns."""

    question: str
    item: Item | None = None
    opening: str = ""
    before: tuple[tuple[str, str], ...] = ()
    system: str = ""


@dataclass(frozen=True)
class Answer:
    """What was written, the opening included, and how likely all of it was (without the opening)."""

    text: str
    prob: float


class Subject:
    """A checkpoint in fp32."""

    def __init__(self, folder: Path, batch_size: int = 64) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self._batch_size = batch_size

    def inputs(self, asked: Sequence[Asked]) -> Any:
        """A left-padded batch; all of it about pictures, or clips, or texts."""
        texts = [self.processor.apply_chat_template(_chat(one), add_generation_prompt=True) for one in asked]
        texts = [text + one.opening for text, one in zip(texts, asked, strict=True)]
        shown = {"images": [], "videos": []}
        for one in asked:
            if one.item is not None and one.item.medium != "text":
                shown["images" if one.item.medium == "picture" else "videos"].append(_media(one.item))
        given = {name: media for name, media in shown.items() if media}
        return self.processor(text=texts, padding=True, return_tensors="pt", **given)

    def texts(self, asked: Sequence[Asked], tokens: int, sampled: bool = False) -> list[str]:
        """What it answers, greedy or sampled at temperature 1."""
        return [answer.text for answer in self.answers(asked, tokens, sampled)]

    @torch.no_grad()
    def answers(self, asked: Sequence[Asked], tokens: int, sampled: bool = False) -> list[Answer]:
        """The same with how likely each answer was."""
        how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
        found: list[Answer] = []
        for part in self._batches(asked):
            batch = self.inputs(part)
            made = self.model.generate(
                **batch, max_new_tokens=tokens, return_dict_in_generate=True, output_logits=True, **how
            )
            ids = made.sequences[:, batch["input_ids"].shape[1] :]
            # The tokenizer pads with what ends no answer: padding is what follows an end.
            logp = torch.stack(made.logits, 1).log_softmax(-1).gather(-1, ids[..., None])[..., 0]
            logp = logp.masked_fill(ids == self.processor.tokenizer.pad_token_id, 0).sum(-1)
            texts = self.processor.batch_decode(ids, skip_special_tokens=True)
            found += [
                Answer(one.opening + text, float(p.exp())) for one, text, p in zip(part, texts, logp, strict=True)
            ]
        return found

    def _batches(self, asked: Sequence[Asked]) -> Iterator[Sequence[Asked]]:
        for start in range(0, len(asked), self._batch_size):
            yield asked[start : start + self._batch_size]


def _media(item: Item) -> Any:
    if isinstance(item.of, Scene):
        return draw(item.of, DIALS)
    return draw_story(item.of, CLIP_DIALS).frames


def _chat(one: Asked) -> list[dict[str, Any]]:
    chat: list[dict[str, Any]] = [{"role": "system", "content": one.system}] if one.system else []
    shown, words = _begin(one.item)
    for question, answer in (*one.before, (one.question, None)):
        chat.append({"role": "user", "content": [*shown, {"type": "text", "text": words + question}]})
        chat += [{"role": "assistant", "content": answer}] if answer is not None else []
        shown, words = [], ""
    return chat


def _begin(item: Item | None) -> tuple[list[dict[str, str]], str]:
    """What a chat about an item shows, and the text it begins with."""
    if item is None:
        return [], ""
    if item.medium == "text":
        return [], item.words + "\n"
    return [{"type": "image" if item.medium == "picture" else "video"}], ""
