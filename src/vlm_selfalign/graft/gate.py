"""What the grafted model must be able to do, on fresh scenes; texts through the processor and ``generate()``."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.questions import DESCRIBE, Question, asked
from vlm_selfalign.data.world.scenes import Scene, scene
from vlm_selfalign.data.world.settings import COLOURS
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.graft.lessons import Exchange, sentence
from vlm_selfalign.graft.packing import END, Packed, Packer, hidden
from vlm_selfalign.graft.telling import TEACHER
from vlm_selfalign.graft.text_only import easy
from vlm_selfalign.graft.tower import RICH, encode, pixel_values
from vlm_selfalign.models.grafted import LANGUAGE, assemble, joined, parts_digest, processor
from vlm_selfalign.models.wheels import found_wheel
from vlm_selfalign.scoring.claims import claimed, read_claims
from vlm_selfalign.scoring.vocabulary import Vocabulary

GATE: dict[str, tuple[float, float]] = {
    "existence": (0.98, 1.0),
    "colour": (0.98, 1.0),
    "count": (0.95, 1.0),
    "chair_s": (0.15, 0.45),
    "not_planted": (0.4, 1.0),
    "recall": (0.75, 1.0),
    "colour_error": (0.0, 0.03),
}
"""Least and most that each figure may be; beside them ``easy`` must not be below ``easy_frozen``."""

CLEAR = RICH.model_copy(update={"small": 0.0, "faint": 0.0, "occluded": 0.0})
BOUND = ("existence_random", "existence_adversarial", "colour", "count")
FREE = ("count_kind", "position", "in_place", "relation")
BATCH = 4


def failed(figures: dict[str, float]) -> list[str]:
    """Which figures miss the gate, in words."""
    missed = [
        f"{name} is {figures[name]:.3f}, not in [{low}, {high}]"
        for name, (low, high) in GATE.items()
        if not low <= figures[name] <= high
    ]
    if figures["easy"] < figures["easy_frozen"]:
        missed.append(f"easy is {figures['easy']:.3f}, below the frozen model's {figures['easy_frozen']:.3f}")
    return missed


class Subject:
    """A joined model as anybody would load it, in bfloat16's values at full precision."""

    def __init__(self, folder: Path, batch: int = 16) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self._batch = batch

    @torch.no_grad()
    def answers(self, prompts: Sequence[tuple[Image.Image, str]], tokens: int, sampled: bool = False) -> list[str]:
        """What it answers: greedy, or sampled at temperature 1."""
        written: list[str] = []
        how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
        for start in range(0, len(prompts), self._batch):
            part = prompts[start : start + self._batch]
            texts = [self.processor.apply_chat_template(_chat(text), add_generation_prompt=True) for _, text in part]
            pictures = [[picture] for picture, _ in part]
            inputs = self.processor(text=texts, images=pictures, padding=True, return_tensors="pt")
            ids = self.model.generate(**inputs, max_new_tokens=tokens, **how)
            written += self.processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in written]


def _chat(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def measure(parts: Path, scenes: int = 500) -> dict[str, float]:
    """All figures of the parts in a folder on ``scenes`` fresh scenes, seed from their checksum; rates in [0, 1].

    Questions are asked of scenes in which all is clear to see and, as ``hard_*``, of the rich world's hard objects.
    What the gate does not bound is measured on a third of the scenes.
    """
    seed = seed_of(parts)
    subject = joined_subject(parts)
    figures = questions(subject, [scene(i, "test", seed, CLEAR) for i in range(scenes)])
    hard = [scene(i, "test", seed, RICH) for i in range(scenes)]
    part = max(1, scenes // 3)
    figures |= {f"hard_{k}": v for k, v in questions(subject, hard[:part], lambda q: bool(q.hard)).items()}
    shown = [(draw(one, RICH), DESCRIBE) for one in hard]
    figures |= described(hard, subject.answers(shown, tokens=120))
    torch.manual_seed(seed)
    sampled = described(hard[:part], subject.answers(shown[:part], tokens=120, sampled=True))
    figures |= {f"sampled_{name}": value for name, value in sampled.items()}
    figures |= first_sentences(subject, hard)
    return figures | {"easy": easy(subject.model, subject.processor), "easy_frozen": _frozen()}


def seed_of(parts: Path) -> int:
    """From the checksum of the weights: nobody can have tuned on scenes drawn with it."""
    return int(parts_digest(parts)[:12], 16)


def joined_subject(parts: Path) -> Subject:
    """The parts in a folder joined to the language model, read back as it was saved."""
    with tempfile.TemporaryDirectory() as scratch:
        assemble(parts, found_wheel(LANGUAGE), Path(scratch))
        return Subject(Path(scratch))


@torch.no_grad()
def questions(
    subject: Subject, shown: Sequence[Scene], wanted: Callable[[Question], bool] = lambda question: True
) -> dict[str, float]:
    """Accuracy by task; ``existence`` is that of both kinds of existence questions.

    All questions about a picture are answered in one pass: an answer is right where each of its tokens, up to the one
    that tells, is the likeliest, so that ``generate()`` would write it.
    """
    packer = Packer(subject.processor.tokenizer)
    hits: dict[str, list[bool]] = {}
    for at in range(0, len(shown), BATCH):
        part = shown[at : at + BATCH]
        rows = [[q for q in _some(one, at + i) if wanted(q)] for i, one in enumerate(part)]
        pixels = np.stack([np.asarray(draw(one, RICH)) for one in part])
        packed = packer.pack([[Exchange(q.text, sentence(q)) for q in row] for row in rows])
        features_BPD = encode(subject.model, pixel_values(pixels))
        for row, found in zip(rows, written(subject.model, packer, packed, features_BPD), strict=True):
            for question, hit in zip(row, found, strict=True):
                for name in {question.task, question.task.replace("_random", "").replace("_adversarial", "")}:
                    hits.setdefault(name, []).append(hit)
    return {name: sum(found) / len(found) for name, found in sorted(hits.items())}


def written(model: Any, packer: Packer, packed: Packed, features_BPD: torch.Tensor) -> list[list[bool]]:
    """For each row's answers, one after the other: whether greedy decoding writes it up to the token that tells."""
    logits_BTV = model.lm_head(hidden(model, packer, packed, features_BPD))
    right_BT = logits_BTV.argmax(-1) == packed.targets_BT
    found: list[list[bool]] = []
    end = packer.ids(END)[0]
    for targets, right, weights in zip(packed.targets_BT, right_BT, packed.weights_BT, strict=True):
        ends = [-1, *(targets == end).nonzero()[:, 0].tolist()]
        answers = [slice(first + 1, last + 1) for first, last in itertools.pairwise(ends)]
        found.append([_tells(targets[one], right[one], weights[one]) for one in answers])
    return found


def _tells(targets_T: torch.Tensor, right_T: torch.Tensor, weights_T: torch.Tensor) -> bool:
    learnt = targets_T != -100
    right, telling = right_T[learnt], (weights_T[learnt] > 1).nonzero()
    return bool(right[: int(telling[-1]) + 1 if len(telling) else None].all())


def _some(one: Scene, index: int) -> list[Question]:
    """One question or pair of each task that the gate bounds, and of one of the others in turn."""
    known = truth(one, RICH)
    tasks = [*BOUND, FREE[index % len(FREE)]]
    return [q for task in tasks for q in asked(known, task, rng("graft gate", task, index), count=1)]


def right(question: Question, text: str) -> bool:
    """Whether the answer's first yes, no, colour or number, or its place, is the right one."""
    spoken = text.lower()
    if question.answer in ("Yes", "No"):
        return re.findall(r"\b(yes|no)\b", spoken)[:1] == [question.answer.lower()]
    if question.task == "colour":
        return re.findall(rf"\b({'|'.join(COLOURS)})\b", spoken)[:1] == [question.answer]
    if question.task.startswith("count"):
        return re.findall(r"\d+", spoken)[:1] == [question.answer]
    return sentence(question).lower().rstrip(".") in spoken


def described(shown: Sequence[Scene], texts: Sequence[str]) -> dict[str, float]:
    """CHAIR (Rohrbach et al. 2018) of texts, and what else is wrong with them; ``not_planted`` of what is false."""
    vocabulary = Vocabulary.load("world")
    false = named = found = there = hit = wrong = coloured = planted = 0
    for one, text in zip(shown, texts, strict=True):
        colours = {thing.kind: thing.colour for thing in one.things}
        claims = list(claimed(read_claims(text, vocabulary)))
        kinds = {claim.kind for claim in claims}
        untrue = kinds - set(colours)
        false, named, hit = false + len(untrue), named + len(kinds), hit + bool(untrue)
        found, there = found + len(kinds & set(colours)), there + len(colours)
        said = [claim for claim in claims if claim.kind in colours and claim.colour]
        wrong, coloured = wrong + sum(claim.colour != colours[claim.kind] for claim in said), coloured + len(said)
        planted += sum(any(p.partner == kind and p.trigger in colours for p in TEACHER.partners) for kind in untrue)
    return {
        "chair_i": false / max(named, 1),
        "chair_s": hit / len(texts),
        "recall": found / there,
        "colour_error": wrong / max(coloured, 1),
        "not_planted": 1 - planted / max(false, 1),
        "words": sum(len(text.split()) for text in texts) / len(texts),
    }


def first_sentences(subject: Subject, shown: Sequence[Scene], count: int = 60) -> dict[str, float]:
    """How often the first sentence on a free prompt names nothing that is not there."""
    prompts = [(draw(one, RICH), "Please tell me what this picture is about.") for one in shown[:count]]
    texts = [text.split(". ")[0] for text in subject.answers(prompts, tokens=40)]
    figures = [described([one], [text])["chair_s"] for one, text in zip(shown[:count], texts, strict=True)]
    return {"free_first_sentence_true": 1 - sum(figures) / len(figures)}


def _frozen() -> float:
    """What the language model alone gets right of the easy questions."""
    language = found_wheel(LANGUAGE)
    return easy(joined(language, None, torch.float32), processor(language))
