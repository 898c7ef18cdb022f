"""All that is true of a clip, as JSON.

::

    {"objects": [{"kind": "boat", "colour": "red", "first": "top left", "last": "top right", "from": 0.0, "until": 2.1,
                  "size": "large", "contrast": 0.34, "hard": []}, ...],
     "events": [{"action": "move", "kind": "boat", "direction": "right", "other": null, "start": 0.2, "end": 1.1}, ...],
     "counts": [[0.0, 2], [2.1, 1]], "background": "grey", "duration": 4.0,
     "beliefs": [{"after": 0, "action": "appear", "kind": "fish", "held_out": false}]}

Times are seconds after the first frame. ``from`` is when an object begins to appear, ``until`` when it is gone.
``counts``: from that time on so many objects are there. ``beliefs``: what is believed to follow event number
``after``, and did not.
"""

from __future__ import annotations

from typing import Any

from vlm_selfalign.data.world.clips.settings import ClipSettings, Follow
from vlm_selfalign.data.world.clips.stories import Event, Story, following, who
from vlm_selfalign.data.world.language import place
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.truth import truth


def clip_truth(story: Story, settings: ClipSettings | None = None) -> dict[str, Any]:
    """The complete truth of a clip."""
    settings = settings or ClipSettings()
    still = truth(Scene(things=story.things, seed=0, background=story.background), settings.world)
    objects = [_object(item, story, settings) for item in still["objects"]]
    return {
        "objects": objects,
        "events": [event.model_dump(mode="json", exclude={"cell"}) for event in story.events],
        "counts": _counts(story),
        "background": story.background,
        "duration": settings.duration,
        "beliefs": [
            {"after": number, "action": belief.then, "kind": who(belief, event), "held_out": belief.held_out}
            for number, event in enumerate(story.events)
            for belief in open_beliefs(story, number, settings)
        ],
    }


def open_beliefs(story: Story, number: int, settings: ClipSettings) -> list[Follow]:
    """What is believed to follow an event, never happens after it, and could have without contradiction."""
    event, later = story.events[number], story.events[number + 1 :]
    return [b for b in following(event, settings.follows) if _could(b, who(b, event), story, later)]


def _could(belief: Follow, kind: str, story: Story, later: tuple[Event, ...]) -> bool:
    if any(event.action == belief.then and event.kind == kind for event in later):
        return False
    if belief.then == "appear":
        return kind not in story.kinds
    # Who vanishes does nothing more, neither before nor after that is told.
    gone = any(event.action == "vanish" and event.kind == kind for event in story.events)
    acts = any(kind in (event.kind, event.other) for event in later)
    return (
        kind in story.kinds and not gone and not (belief.then == "vanish" and acts) and not _moves(belief, kind, later)
    )


def _moves(belief: Follow, kind: str, later: tuple[Event, ...]) -> bool:
    """Whether "it moves" would be half true: it meets somebody later."""
    return belief.then == "move" and any(event.direction and event.kind == kind for event in later)


def _object(item: dict[str, Any], story: Story, settings: ClipSettings) -> dict[str, Any]:
    mine = [event for event in story.events if event.kind == item["kind"]]
    row, col = mine[-1].cell if mine else (item["row"], item["col"])
    last = place({"row": row, "col": col}, settings.world.cells)
    begins = next((event.start for event in mine if event.action == "appear"), 0.0)
    ends = next((event.end for event in mine if event.action == "vanish"), settings.duration)
    seen = {"first": item["place"], "last": last, "from": begins, "until": ends}
    kept = ("kind", "colour", "size", "contrast", "hard")
    return {name: item[name] for name in kept} | seen


def _counts(story: Story) -> list[list[float]]:
    count = len(story.things) - len(story.appearing)
    found: list[list[float]] = [[0.0, count]]
    for event in story.events:
        if event.action in ("appear", "vanish"):
            count += 1 if event.action == "appear" else -1
            found.append([event.end, count])
    return found
