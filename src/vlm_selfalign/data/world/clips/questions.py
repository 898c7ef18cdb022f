"""Questions about clips whose answers the truth knows: what happened, which way, in which order, how many, who first.

::

    asked_of_clip(sample.truth, "event", sample.rng("event"))

Yes/no questions come in pairs, as in VideoHallucer (Wang et al. 2024): a basic one (Yes) and its hallucinated twin
(No) share a ``pair``. The twin is the same event done by another object or another way, or what is falsely believed
to follow. Questions about order come both ways round.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.data.world.clips.language import TOWARDS
from vlm_selfalign.data.world.clips.settings import STEPS
from vlm_selfalign.data.world.questions import Question
from vlm_selfalign.data.world.settings import KINDS

DESCRIBE_CLIP = "Describe the clip."
EXISTENCE_CLIP = "Is there a {kind} in the clip?"
COLOUR_CLIP = "What colour is the {kind}?"
DIRECTION = "Which way does the {kind} move?"
WHICH_FIRST = "What happens first: {first}, or {second}?"
WHO_FIRST = "Which moves first, the {first} or the {second}?"
BEFORE = "Does it happen in this order: {first}, then {second}?"
COUNT_START = "How many objects are there at the start?"
COUNT_END = "How many objects are there at the end?"
COUNT_APPEAR = "How many objects appear?"

Truth = Mapping[str, Any]
Happening = Mapping[str, Any]
Task = Callable[[Truth, random.Random], list[Question]]


def said(event: Happening) -> str:
    """An event in plain words: ``the boat moves to the left``, ``a fish appears``."""
    return _worded(event, "moves", "meets", "appears", "vanishes")


def does(event: Happening) -> str:
    """The same as a yes/no question."""
    return f"Does {_worded(event, 'move', 'meet', 'appear', 'vanish')}?"


def _worded(event: Happening, move: str, meet: str, appear: str, vanish: str) -> str:
    kind, towards = event["kind"], TOWARDS.get(event["direction"], "")
    return {
        "move": f"the {kind} {move} {towards}",
        "meet": f"the {kind} {meet} the {event['other']}",
        "appear": f"a {kind} {appear}",
        "vanish": f"the {kind} {vanish}",
    }[event["action"]]


def asked_of_clip(known: Truth, task: str, chance: random.Random, count: int | None = None) -> list[Question]:
    """Questions of one of the ``CLIP_TASKS`` about a clip, from its truth; none where nothing can be asked.

    ``count``: at most so many questions, or pairs of them.
    """
    if task not in CLIP_TASKS:
        raise UserError(f"worldclip: no task '{task}'{nearest(task, CLIP_TASKS)}")
    found = CLIP_TASKS[task](known, chance)
    size = 2 if task in CLIP_YES_NO else 1
    groups = [found[i : i + size] for i in range(0, len(found), size)]
    if count is not None:
        groups = chance.sample(groups, min(count, len(groups)))
    for group in groups:
        chance.shuffle(group)
    return [question for group in groups for question in group]


def _pair(task: str, kind: str, yes: str, no: str) -> list[Question]:
    return [Question(text, answer, kind, task, pair=f"{task}: {yes}") for text, answer in ((yes, "Yes"), (no, "No"))]


def _existence(known: Truth, chance: random.Random) -> list[Question]:
    present = [item["kind"] for item in known["objects"]]
    absent = [kind for kind in KINDS if kind not in present]
    missing = chance.sample(absent, min(len(present), len(absent)))
    texts = [
        (EXISTENCE_CLIP.format(kind=a), EXISTENCE_CLIP.format(kind=b)) for a, b in zip(present, missing, strict=False)
    ]
    return [q for kind, (yes, no) in zip(present, texts, strict=False) for q in _pair("existence", kind, yes, no)]


def _colour(known: Truth, chance: random.Random) -> list[Question]:
    return [
        Question(COLOUR_CLIP.format(kind=item["kind"]), item["colour"], item["kind"], "colour", tuple(item["hard"]))
        for item in known["objects"]
    ]


def _event(known: Truth, chance: random.Random) -> list[Question]:
    """Each event, and one like it that did not happen: another object, another way."""
    found = []
    for event in known["events"]:
        twins = [twin for twin in _twins(event, known) if not happened(twin, known)]
        if twins:
            found += _pair("event", event["kind"], does(event), does(chance.choice(twins)))
    return found


def _believed(known: Truth, chance: random.Random) -> list[Question]:
    """The event that a false belief starts from, and what is believed to follow it but did not."""
    found = []
    for belief in known["beliefs"]:
        event = known["events"][belief["after"]]
        way = chance.choice(list(STEPS)) if belief["action"] == "move" else None
        twin = {"action": belief["action"], "kind": belief["kind"], "direction": way, "other": None}
        if not happened(twin, known):
            found += _pair("believed", belief["kind"], does(event), does(twin))
    return found


def _twins(event: Happening, known: Truth) -> list[dict[str, Any]]:
    kinds = [item["kind"] for item in known["objects"]]
    others = [kind for kind in (KINDS if event["action"] == "appear" else kinds) if kind != event["kind"]]
    changed = [{"kind": kind} for kind in others if kind != event["other"]]
    changed += [{"direction": way} for way in STEPS if event["action"] == "move" and way != event["direction"]]
    changed += [{"other": kind} for kind in others if event["other"] not in (None, kind)]
    return [{**event, **change} for change in changed]


def happened(event: Happening, known: Truth) -> bool:
    """Whether it happened, also as a part: who meets another one that way has moved that way, and was met."""
    return any(_is_part(event, whole) for whole in known["events"])


def _is_part(event: Happening, whole: Happening) -> bool:
    if event["action"] == "move":
        return event["kind"] == whole["kind"] and event["direction"] == whole["direction"]
    if event["action"] == "meet":
        return whole["action"] == "meet" and {event["kind"], event["other"]} == {whole["kind"], whole["other"]}
    return (event["action"], event["kind"]) == (whole["action"], whole["kind"])


def _clear(known: Truth) -> list[Happening]:
    """Events that happen once only, however they are put: of those it can be said which came first."""
    times = Counter(said(event) for event in known["events"])
    clear = [event for event in known["events"] if times[said(event)] == 1]
    return [e for e in clear if sum(_is_part(e, whole) for whole in known["events"]) == 1]


def _following(known: Truth) -> list[tuple[Happening, Happening]]:
    clear = _clear(known)
    return [(first, second) for i, first in enumerate(clear) for second in clear[i + 1 :]]


def _order(known: Truth, chance: random.Random) -> list[Question]:
    found = []
    for first, second in _following(known):
        yes, no = (BEFORE.format(first=said(a), second=said(b)) for a, b in ((first, second), (second, first)))
        found += _pair("order", "", yes, no)
    return found


def _which_first(known: Truth, chance: random.Random) -> list[Question]:
    found = []
    for first, second in _following(known):
        names = [said(first), said(second)]
        chance.shuffle(names)
        text = WHICH_FIRST.format(first=names[0], second=names[1])
        found.append(Question(text, said(first), first["kind"], "which_first", choices=tuple(names)))
    return found


def _who_first(known: Truth, chance: random.Random) -> list[Question]:
    """Of two that move: a meeting moves the one who comes."""
    began = {event["kind"]: event["start"] for event in reversed(known["events"]) if event["direction"]}
    movers = sorted(began, key=lambda kind: began[kind])
    found = []
    for i, first in enumerate(movers):
        for second in movers[i + 1 :]:
            names = [first, second]
            chance.shuffle(names)
            text = WHO_FIRST.format(first=names[0], second=names[1])
            found.append(Question(text, first, first, "who_first", choices=tuple(names)))
    return found


def _direction(known: Truth, chance: random.Random) -> list[Question]:
    """Of those that move once."""
    moves = Counter(event["kind"] for event in known["events"] if event["direction"])
    return [
        Question(DIRECTION.format(kind=event["kind"]), event["direction"], event["kind"], "direction")
        for event in known["events"]
        if event["direction"] and moves[event["kind"]] == 1
    ]


def _count(known: Truth, chance: random.Random) -> list[Question]:
    appearing = sum(event["action"] == "appear" for event in known["events"])
    counts = [number for _, number in known["counts"]]
    asked = [(COUNT_START, counts[0]), (COUNT_END, counts[-1]), (COUNT_APPEAR, appearing)]
    return [Question(text, str(number), "", "count") for text, number in asked]


CLIP_TASKS: dict[str, Task] = {
    "existence": _existence,
    "colour": _colour,
    "event": _event,
    "believed": _believed,
    "order": _order,
    "which_first": _which_first,
    "who_first": _who_first,
    "direction": _direction,
    "count": _count,
}
"""Every task by its name."""

CLIP_YES_NO = ("existence", "event", "believed", "order")
"""Tasks of pairs, one answered Yes and its twin No."""
