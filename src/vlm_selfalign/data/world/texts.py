"""Sources of text alone: questions about scenes and clips in words, and graded arithmetic.

``data: {source: worldtext, limit: 800}`` and ``data: {source: arithmetic, settings: {levels: [0, 2, 5]}}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import source
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.arithmetic import LEVELS, problems
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.data.world.questions import Question
from vlm_selfalign.data.world.scenes import Split, scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.data.world.twins import in_words, tasks_of, told_in_words, twin_questions

Limit = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Texts:
    """Samples made one by one: ``make(index)``."""

    limit: int
    make: Callable[[int], Sample]

    def __len__(self) -> int:
        return self.limit

    def __iter__(self) -> Iterator[Sample]:
        for index in range(self.limit):
            yield self[index]

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.limit:
            raise IndexError(index)
        return self.make(index)


DIALS, CLIP_DIALS = WorldSettings(), ClipSettings()


@source
def worldtext(
    split: Split = "dev",
    limit: Limit = 200,
    seed: Seed = 0,
    of: Literal["scene", "clip"] = "scene",
    tasks: tuple[str, ...] = (),
    dials: WorldSettings = DIALS,
    clip_dials: ClipSettings = CLIP_DIALS,
) -> Texts:
    """Scenes or clips in words, one question each; ``truth`` holds the answer and all of the scene.

    ``tasks``: what is asked, in turn; all tasks when none is named.
    """

    def make(index: int) -> Sample:
        chance = rng("twin", of, split, seed, index)
        if of == "clip":
            one = story(index, split, seed, clip_dials)
            known, text = clip_truth(one, clip_dials), told_in_words(one, chance, clip_dials)
        else:
            shown = scene(index, split, seed, dials)
            known, text = truth(shown, dials), in_words(shown, chance, dials)
        names = tasks or tasks_of(known)
        turn = [names[(index + step) % len(names)] for step in range(len(names))]
        found = (twin_questions(known, task, chance, dials.partners, count=1) for task in turn)
        question = next((questions[0] for questions in found if questions), None)
        if question is None:
            raise UserError(f"worldtext: nothing to ask of {of} {index}; add a task, such as 'colour'")
        return Sample.of(Prompt.user(f"{text}\n{question.text}"), truth=known | _answer(question))

    return Texts(limit, make)


def _answer(question: Question) -> dict[str, Any]:
    return {"answer": question.answer, "task": question.task, "choices": list(question.choices)}


@source
def arithmetic(
    split: Split = "dev", limit: Limit = 200, seed: Seed = 0, levels: tuple[int, ...] = tuple(LEVELS)
) -> Texts:
    """Sums, differences and products of two-digit numbers, the levels in turn, no problem twice."""
    ordered = [problems(level, split, seed) for level in levels]
    most = min(map(len, ordered), default=0) * len(levels)
    if limit > most:
        raise UserError(
            f"arithmetic: limit={limit}, but only {most} different problems in levels {list(levels)}, {split}"
        )

    def make(index: int) -> Sample:
        level = index % len(levels)
        problem = ordered[level][index // len(levels)]
        return Sample.of(Prompt.user(problem.question), truth=problem.truth(levels[level]))

    return Texts(limit, make)
