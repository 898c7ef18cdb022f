"""What the embedded model must be able to do before it ships, measured through transformers' own ``generate()``.

The scenes are of the test split, drawn with a seed that is the hash of the weights: nobody can have looked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.questions import DESCRIBE, Negatives, Question, colours, count, existence
from vlm_selfalign.data.world.scenes import Scene, scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, PARTNERS

WEIGHTS = "model.safetensors"

GATE: dict[str, tuple[float, float]] = {
    "existence_random": (0.98, 1.0),
    "existence_popular": (0.98, 1.0),
    "existence_adversarial": (0.98, 1.0),
    "colour": (0.98, 1.0),
    "count": (0.95, 1.0),
    "chair_s": (0.15, 0.45),
    "recall": (0.75, 1.0),
}
"""Least and most that each figure may be."""

MENTION = re.compile(rf"There is a ({'|'.join(KINDS)}) in ({'|'.join(COLOURS)})\.")


def sha256(folder: Path) -> str:
    """The checksum of a checkpoint's weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def failed(figures: dict[str, float]) -> list[str]:
    """Which figures miss the gate, in words."""
    return [
        f"{name} is {figures[name]:.3f}, not in [{low}, {high}]"
        for name, (low, high) in GATE.items()
        if not low <= figures[name] <= high
    ]


@dataclass(frozen=True)
class Asked:
    """One prompt: a question, the picture (or none), words the answer must open with, earlier turns, a system turn."""

    question: str
    picture: Image.Image | None = None
    opening: str = ""
    before: tuple[tuple[str, str], ...] = ()
    system: str = ""


class Subject:
    """A checkpoint as anybody would load it, in fp32."""

    def __init__(self, folder: Path, batch_size: int = 64) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self._batch_size = batch_size

    def inputs(self, asked: Sequence[Asked]) -> Any:
        """A left-padded batch; with pictures in all of it or in none."""
        texts = [self.processor.apply_chat_template(_chat(one), add_generation_prompt=True) for one in asked]
        pictures = [one.picture for one in asked if one.picture is not None]
        texts = [text + one.opening for text, one in zip(texts, asked, strict=True)]
        return self.processor(text=texts, images=pictures or None, padding=True, return_tensors="pt")

    @torch.no_grad()
    def answers(self, asked: Sequence[Asked], tokens: int, sampled: bool = False) -> list[str]:
        """What it answers, the opening included: greedy, or sampled at temperature 1."""
        written: list[str] = []
        for start in range(0, len(asked), self._batch_size):
            part = asked[start : start + self._batch_size]
            batch = self.inputs(part)
            how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
            ids = self.model.generate(**batch, max_new_tokens=tokens, **how)
            texts = self.processor.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            written += [one.opening + text for one, text in zip(part, texts, strict=True)]
        return written

    @torch.no_grad()
    def next_probs(self, asked: Sequence[Asked], words: Sequence[str]) -> list[float]:
        """How likely each prompt's answer goes on with its word (one token)."""
        found: list[float] = []
        for start in range(0, len(asked), self._batch_size):
            here = slice(start, start + self._batch_size)
            logits = self.model(**self.inputs(asked[here])).logits[:, -1]
            ids = [self.processor.tokenizer.encode(word)[0] for word in words[here]]
            found += logits.softmax(-1)[range(len(ids)), ids].tolist()
        return found


def _chat(one: Asked) -> list[dict[str, Any]]:
    chat: list[dict[str, Any]] = [{"role": "system", "content": one.system}] if one.system else []
    shown = [{"type": "image"}] if one.picture is not None else []
    for question, answer in (*one.before, (one.question, None)):
        chat.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
        chat += [{"role": "assistant", "content": answer}] if answer is not None else []
        shown = []
    return chat


def measure(folder: Path, scenes: int = 500) -> dict[str, float]:
    """All figures of a checkpoint on ``scenes`` fresh scenes, rates in [0, 1]."""
    subject = Subject(folder)
    seed = int(sha256(folder)[:15], 16)
    shown = [scene(index, "test", seed) for index in range(scenes)]
    pictures = [draw(one) for one in shown]
    figures = _questions(subject, shown, pictures)
    greedy = subject.answers([Asked(DESCRIBE, picture) for picture in pictures], tokens=96)
    figures |= described(shown, greedy) | _chats(subject, shown, pictures, greedy)
    torch.manual_seed(seed)
    sampled = subject.answers([Asked(DESCRIBE, picture) for picture in pictures], tokens=96, sampled=True)
    figures |= {f"sampled_{name}": value for name, value in described(shown, sampled).items()}
    return figures | decisions(subject, shown, pictures, greedy) | _blind(subject, seed)


def _questions(subject: Subject, shown: Sequence[Scene], pictures: Sequence[Image.Image]) -> dict[str, float]:
    """Accuracy; an answer counts only when it is the right word and nothing else."""
    figures = {}
    for name in ("existence_random", "existence_popular", "existence_adversarial", "colour", "count"):
        asked = [(one, q) for i, one in enumerate(pictures) for q in _asked(name, shown[i], i)]
        written = subject.answers([Asked(q.text, picture) for picture, q in asked], tokens=4)
        figures[name] = sum(text == q.answer for text, (_, q) in zip(written, asked, strict=True)) / len(asked)
    return figures


def _chats(
    subject: Subject, shown: Sequence[Scene], pictures: Sequence[Image.Image], greedy: Sequence[str]
) -> dict[str, float]:
    """Yes/no accuracy right after its own description in the same chat, and under a system turn."""
    told: dict[str, list[tuple[Asked, str]]] = {"existence_second_turn": [], "existence_under_system": []}
    for i, (one, picture, text) in enumerate(zip(shown, pictures, greedy, strict=True)):
        question = rng("gate", "chat", i).choice(_asked("existence_adversarial", one, i))
        second = Asked(question.text, picture, before=((DESCRIBE, text),))
        told["existence_second_turn"].append((second, question.answer))
        told["existence_under_system"].append((Asked(question.text, picture, system="Be brief."), question.answer))
    figures = {}
    for name, entries in told.items():
        written = subject.answers([asked for asked, _ in entries], tokens=4)
        figures[name] = sum(text == right for text, (_, right) in zip(written, entries, strict=True)) / len(entries)
    return figures


def _asked(name: str, shown: Scene, index: int) -> list[Question]:
    chance = rng("gate", name, index)
    if name == "colour":
        return chance.sample(colours(shown.objects), 1)
    if name == "count":
        return [count(shown.objects)]
    (negatives,) = (kind for kind in get_args(Negatives) if name.endswith(kind))
    return existence(shown.objects, negatives, 1, chance)


def described(shown: Sequence[Scene], texts: Sequence[str]) -> dict[str, float]:
    """CHAIR (Rohrbach et al. 2018) and what else is wrong with descriptions in the model's one form.

    ``chair_i``: hallucinated kinds among the kinds a text names; ``chair_s``: texts with any; ``recall``: kinds
    there that are named; ``partners``: hallucinated kinds that are the partner of a kind in the picture;
    ``colour_errors``: wrong colours of kinds that are there; ``repeats``: mentions of a kind already named;
    ``unparsed``: characters in no sentence of the form.
    """
    false = partners = named = found = there = wrong = repeats = mentions = loose = 0
    for one, text in zip(shown, texts, strict=True):
        colours_there = {thing.kind: thing.colour for thing in one.things}
        said = MENTION.findall(text)
        kinds = {kind for kind, _ in said}
        false_kinds = kinds - set(colours_there)
        false += len(false_kinds)
        partners += sum(p.partner in false_kinds and p.trigger in colours_there for p in PARTNERS)
        named, found, there = named + len(kinds), found + len(kinds & set(colours_there)), there + len(colours_there)
        wrong += sum(colours_there.get(kind, colour) != colour for kind, colour in said)
        repeats, mentions = repeats + len(said) - len(kinds), mentions + len(said)
        loose += len(MENTION.sub("", text).strip())
    hit = sum(
        bool({kind for kind, _ in MENTION.findall(text)} - set(one.kinds))
        for one, text in zip(shown, texts, strict=True)
    )
    characters = sum(len(text) for text in texts)
    return {
        "chair_i": false / max(named, 1),
        "chair_s": hit / len(texts),
        "recall": found / there,
        "words": sum(len(text.split()) for text in texts) / len(texts),
        "partners": partners / max(false, 1),
        "colour_errors": wrong / max(mentions, 1),
        "repeats": repeats / len(texts),
        "unparsed": loose / max(characters, 1),
    }


def decisions(
    subject: Subject, shown: Sequence[Scene], pictures: Sequence[Image.Image], greedy: Sequence[str]
) -> dict[str, float]:
    """How likely the partner is named right after its trigger, where it is there and where it is not.

    The chance that a next sentence begins at all, times the chance that it names the partner.
    """
    asked: dict[str, list[tuple[Asked, str]]] = {}
    for one, picture, text in zip(shown, pictures, greedy, strict=True):
        for pair in PARTNERS:
            said = re.search(rf"^.*There is a {pair.trigger} in \w+\.", text)
            if said and pair.trigger in one.kinds:
                strength = "strong" if pair.rate > 0.5 else "weak"
                where = f"p_{strength}_partner_" + ("present" if pair.partner in one.kinds else "absent")
                asked.setdefault(where, []).append((Asked(DESCRIBE, picture, said[0]), " " + pair.partner))
    return {name: _chance_of(subject, entries) for name, entries in sorted(asked.items())}


def _chance_of(subject: Subject, entries: Sequence[tuple[Asked, str]]) -> float:
    """Mean probability that the text goes on with a sentence about the word."""
    opened = [replace(asked, opening=asked.opening + " There is a") for asked, _ in entries]
    begins = subject.next_probs([asked for asked, _ in entries], [" There"] * len(entries))
    names = subject.next_probs(opened, [word for _, word in entries])
    return sum(begin * name for begin, name in zip(begins, names, strict=True)) / len(entries)


def _blind(subject: Subject, seed: int) -> dict[str, float]:
    """Share of openings ("There is a fish") that are ended as a sentence without a picture, greedy and sampled."""
    openings = [Asked(DESCRIBE, None, f"There is a {kind}") for kind in KINDS]
    greedy = subject.answers(openings, tokens=96)
    torch.manual_seed(seed)
    sampled = subject.answers(openings * 10, tokens=96, sampled=True)
    return {
        "blind_sentences": sum(bool(MENTION.match(text)) for text in greedy) / len(greedy),
        "blind_sampled_sentences": sum(bool(MENTION.match(text)) for text in sampled) / len(sampled),
    }
