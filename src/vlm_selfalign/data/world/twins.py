"""Text twins: the same scene or clip in words, complete and true, so that the same questions can be asked of a text.

::

    in_words(scene, chance, settings)      # "Row 1, column 4 (top right): a red car. Row 2, column 1 (...): ..."
    told_in_words(story, chance, settings) # "At the start there is a blue cup in the top left. Then a boat appears ..."
    twin_questions(truth, "relation", chance)

Rows are counted from the top, columns from the left.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlm_selfalign.data.world.clips.language import listed, sentence
from vlm_selfalign.data.world.clips.questions import CLIP_TASKS, asked_of_clip, said
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import Story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.data.world.questions import PARTNERS, TASKS, Question, asked
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import Partner, WorldSettings
from vlm_selfalign.data.world.truth import truth

Truth = Mapping[str, Any]

STYLES = (
    "Row {row}, column {col} ({place}): a {colour} {kind}.",
    "There is a {colour} {kind} in row {row}, column {col}, which is in the {place}.",
    "A {kind} in {colour} is in the {place}, in row {row} and column {col}.",
    "The {place} holds a {colour} {kind}: row {row}, column {col}.",
)
"""How a text puts its objects; all of a text are put the same way, in any order."""


def in_words(scene: Scene, chance: random.Random, settings: WorldSettings | None = None) -> str:
    """A scene in words: every object with colour, row, column and place."""
    objects = truth(scene, settings)["objects"]
    chance.shuffle(objects)
    style = chance.choice(STYLES)
    return " ".join(style.format(**{**item, "row": item["row"] + 1, "col": item["col"] + 1}) for item in objects)


def told_in_words(story: Story, chance: random.Random, settings: ClipSettings | None = None) -> str:
    """A clip in words: who is there at the start and where, then every event in its order."""
    known = clip_truth(story, settings)
    start = [item for item in known["objects"] if item["kind"] not in story.appearing]
    chance.shuffle(start)
    names = [f"a {item['colour']} {item['kind']} in the {item['first']}" for item in start]
    later = {item["kind"]: item["colour"] for item in known["objects"]}
    sentences = [sentence(f"at the start there is {listed(names)}")]
    for number, event in enumerate(known["events"]):
        happening = said(event)
        if event["action"] == "appear":
            happening = happening.replace(f"a {event['kind']}", f"a {later[event['kind']]} {event['kind']}")
        sentences.append(sentence(f"{'first' if number == 0 else 'then'} {happening}"))
    return " ".join(sentences)


def twin_questions(
    known: Truth,
    task: str,
    chance: random.Random,
    partners: Sequence[Partner] = PARTNERS,
    count: int | None = None,
) -> list[Question]:
    """The questions of ``questions.asked``, or ``asked_of_clip`` where the truth has events, put to a text."""
    if "events" in known:
        return [_reworded(question, "clip", "story") for question in asked_of_clip(known, task, chance, count)]
    found = asked(_readable(known), task, chance, partners, count)
    return [_reworded(question, "image", "scene") for question in found]


def tasks_of(known: Truth) -> tuple[str, ...]:
    """The tasks that a truth can be asked about."""
    return tuple(CLIP_TASKS if "events" in known else TASKS)


def _reworded(question: Question, seen: str, read: str) -> Question:
    return replace(question, text=question.text.replace(f"the {seen}", f"the {read}"), hard=())


def _readable(known: Truth) -> dict[str, Any]:
    """Only relations that rows and columns tell: who covers another one may stand otherwise than its cell says."""
    at = {item["kind"]: (item["row"], item["col"]) for item in known["objects"]}
    kept = [relation for relation in known["relations"] if _told(relation[1], at[relation[0]], at[relation[2]])]
    return {**known, "relations": kept}


def _told(relation: str, a: tuple[int, int], b: tuple[int, int]) -> bool:
    down, right = b[0] - a[0], b[1] - a[1]
    return {"left of": right > 0, "right of": right < 0, "above": down > 0, "below": down < 0}.get(relation, False)
