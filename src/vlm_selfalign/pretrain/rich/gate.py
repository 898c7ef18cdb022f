"""What the second edition must be able to do before it ships, through transformers' own ``generate()``.

The items are of the test split, drawn with a seed that is the hash of the weights: nobody can have looked. While a
model is made, ``split="dev"`` measures the same on items that may be looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.arithmetic import DIFFICULTY, LEVELS, problems
from vlm_selfalign.data.world.questions import Question
from vlm_selfalign.data.world.scenes import Split
from vlm_selfalign.pretrain.gate import sha256
from vlm_selfalign.pretrain.rich.answerable import asked_task
from vlm_selfalign.pretrain.rich.described import clips_described, partner_rates, pictures_described
from vlm_selfalign.pretrain.rich.items import DIALS, Item, Medium, item
from vlm_selfalign.pretrain.rich.subject import Asked, Subject
from vlm_selfalign.pretrain.rich.tasks.ask import ASK
from vlm_selfalign.pretrain.rich.tasks.describe import DESCRIBE

TRIGGERS = tuple(dict.fromkeys(belief.trigger for belief in DIALS.partners))

GATE: dict[str, tuple[float, float]] = {
    "existence_random": (0.98, 1),
    "existence_popular": (0.98, 1),
    "existence_adversarial": (0.98, 1),
    "colour": (0.98, 1),
    "count": (0.95, 1),
    "position": (0.90, 1),
    "in_place": (0.90, 1),
    "relation": (0.90, 1),
    "side": (0.90, 1),
    "chair_s": (0.15, 0.45),
    "recall": (0.75, 1),
    "not_planted": (0.40, 1),
    **{f"partner_{trigger}": (0.3, 0.75) for trigger in TRIGGERS},
    "clip_existence": (0.90, 1),
    "clip_direction": (0.85, 1),
    "clip_order": (0.85, 1),
    "sampled_false_following": (0.15, 0.45),
    "text_scene": (0.95, 1),
    "text_story": (0.95, 1),
    "arithmetic_easy": (0.95, 1),
    "arithmetic_hard": (0, 0.6),
    "arithmetic_ece": (0, 0.10),
    "asks_answerable": (0.80, 1),
    "asks_kinds": (5, 99),
}
"""Least and most that each figure may be."""

PICTURE_TASKS = {
    "existence_random": 1,
    "existence_popular": 1,
    "existence_adversarial": 1,
    "colour": 2,
    "count": 1,
    "count_kind": 2,
    "position": 2,
    "in_place": 1,
    "relation": 1,
    "side": 2,
}
CLIP_TASKS = {
    "existence": 1,
    "colour": 1,
    "event": 1,
    "believed": 1,
    "order": 1,
    "which_first": 1,
    "who_first": 1,
    "direction": 2,
    "count": 1,
}
"""Questions, or pairs of them, per item."""

Figures = dict[str, float]


def failed(figures: Mapping[str, float]) -> list[str]:
    """Which figures miss the gate, in words; one that could not be measured misses it."""
    return [
        f"{name} is {figures.get(name, float('nan')):.3f}, not in [{low}, {high}]"
        for name, (low, high) in GATE.items()
        if not low <= figures.get(name, float("nan")) <= high
    ]


def measure(
    folder: Path, count: int = 500, split: Split = "test", say: Callable[[Figures], None] = lambda figures: None
) -> Figures:
    """All figures of a checkpoint on ``count`` fresh items of each medium; ``say`` gets them part by part."""
    subject, seed = Subject(folder), int(sha256(folder)[:15], 16) if split == "test" else 0
    figures: Figures = {}

    def add(found: Figures) -> None:
        figures.update(found)
        say(found)

    shown = {medium: [item(medium, i, split, seed) for i in range(count)] for medium in _MEDIA}
    add(_accuracies(subject, PICTURE_TASKS, clear_pictures(count, split, seed)))
    add(_hard(subject, shown["picture"]))
    add({f"clip_{task}": share for task, share in _accuracies(subject, CLIP_TASKS, shown["clip"]).items()})
    add(_texts(subject, shown["text"]))
    add(_arithmetic(subject, split, count))
    torch.manual_seed(seed)
    add(_descriptions(subject, shown["picture"], shown["clip"]))
    add(_beliefs(subject, [one for trigger in TRIGGERS for one in inviting(trigger, count // 3, split, seed)]))
    add(_own_questions(subject, [one for medium in _MEDIA for one in shown[medium][: count // 2]]))
    return figures


_MEDIA: tuple[Medium, ...] = ("picture", "clip", "text")


def _right(subject: Subject, asked: Sequence[tuple[Item, Question]], tokens: int = 12) -> list[bool]:
    """Whether each answer is the right one and nothing else."""
    written = subject.texts([Asked(question.text, one) for one, question in asked], tokens)
    return [text == question.answer for text, (_, question) in zip(written, asked, strict=True)]


def _questions(items: Sequence[Item], task: str, count: int) -> list[tuple[Item, Question]]:
    return [
        (one, question)
        for number, one in enumerate(items)
        for question in one.asked(task, rng("gate", task, number), count)
    ]


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else float("nan")


def clear_pictures(count: int, split: Split, seed: int) -> list[Item]:
    """The first pictures without any object that is hard to see: what is not there can be taken for no other thing."""
    drawn = (item("picture", index, split, seed) for index in itertools.count())
    return list(itertools.islice((one for one in drawn if not any(o["hard"] for o in one.truth["objects"])), count))


def inviting(trigger: str, count: int, split: Split, seed: int) -> list[Item]:
    """The first pictures of a trigger without any of its partners."""
    partners = {belief.partner for belief in DIALS.partners_of(trigger)}
    drawn = (item("picture", index, split, seed) for index in itertools.count())
    found = (one for one in drawn if trigger in one.of.kinds and not partners & set(one.of.kinds))
    return list(itertools.islice(found, count))


def _accuracies(subject: Subject, tasks: Mapping[str, int], items: Sequence[Item]) -> Figures:
    return {task: _share(_right(subject, _questions(items, task, count))) for task, count in tasks.items()}


def _hard(subject: Subject, items: Sequence[Item]) -> Figures:
    """Accuracy of questions about what is hard to see."""
    figures: Figures = {}
    for task, count in PICTURE_TASKS.items():
        asked = [(one, question) for one, question in _questions(items, task, count) if question.hard]
        figures[f"hard_{task}"] = _share(_right(subject, asked))
    return figures


def _texts(subject: Subject, items: Sequence[Item]) -> Figures:
    """Accuracy over all tasks alike, for scenes and for stories, and by task."""
    figures: Figures = {}
    for noun, tasks in (("scene", PICTURE_TASKS), ("story", CLIP_TASKS)):
        told = [one for one in items if one.noun == noun]
        shares = _accuracies(subject, dict.fromkeys(tasks, 1), told)
        figures |= {f"text_{noun}": sum(shares.values()) / len(shares)}
        figures |= {f"text_{noun}_{task}": share for task, share in shares.items()}
    return figures


def _arithmetic(subject: Subject, split: Split, count: int) -> Figures:
    """Accuracy by difficulty; calibration error of the answers' probabilities over ten bins (Guo et al. 2017)."""
    asked = [(level, one) for level in LEVELS for one in problems(level, split)[: max(count // 3, 40)]]
    answers = subject.answers([Asked(one.question) for _, one in asked], tokens=8)
    right = [answer.text == one.answer for answer, (_, one) in zip(answers, asked, strict=True)]
    figures: Figures = {}
    for name in ("easy", "medium", "hard"):
        figures[f"arithmetic_{name}"] = _share(
            [hit for hit, (level, _) in zip(right, asked, strict=True) if DIFFICULTY[level] == name]
        )
    return figures | {"arithmetic_ece": calibration_error([answer.prob for answer in answers], right)}


def calibration_error(probs: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Mean distance of confidence and accuracy over equally wide bins, weighted by their sizes."""
    held: dict[int, list[tuple[float, bool]]] = {}
    for prob, hit in zip(probs, right, strict=True):
        held.setdefault(min(int(prob * bins), bins - 1), []).append((prob, hit))
    gaps = [abs(sum(prob for prob, _ in part) - sum(hit for _, hit in part)) for part in held.values()]
    return sum(gaps) / max(len(right), 1)


def _descriptions(subject: Subject, pictures: Sequence[Item], clips: Sequence[Item]) -> Figures:
    """Greedy, and sampled at temperature 1."""
    asked = [Asked(DESCRIBE.format(noun="image"), one) for one in pictures]
    watched = [Asked(DESCRIBE.format(noun="clip"), one) for one in clips]
    figures = pictures_described(pictures, subject.texts(asked, 128))
    sampled = pictures_described(pictures, subject.texts(asked, 128, sampled=True))
    figures |= clips_described(clips, subject.texts(watched, 128))
    sampled |= clips_described(clips, subject.texts(watched, 128, sampled=True))
    return figures | {f"sampled_{name}": value for name, value in sampled.items()}


def _beliefs(subject: Subject, items: Sequence[Item]) -> Figures:
    """How often a partner that is not there is named right after its trigger, at temperature 1."""
    asked = [Asked(DESCRIBE.format(noun="image"), one) for one in items]
    return partner_rates(items, subject.texts(asked, 128, sampled=True))


def _own_questions(subject: Subject, items: Sequence[Item]) -> Figures:
    """Of sampled own questions: how many the item answers, and how many kinds make up 3 % of them each at least."""
    tasks: list[str | None] = []
    for medium in _MEDIA:
        part = [one for one in items if one.medium == medium]
        written = subject.texts([Asked(ASK.format(noun=one.noun), one) for one in part], 40, sampled=True)
        tasks += [asked_task(text, one) for text, one in zip(written, part, strict=True)]
    often = [task for task in set(tasks) - {None} if tasks.count(task) >= 0.03 * len(tasks)]
    return {"asks_answerable": 1 - tasks.count(None) / len(tasks), "asks_kinds": float(len(often))}
