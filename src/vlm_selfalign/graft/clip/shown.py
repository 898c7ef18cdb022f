"""What the tiny open_clip model learns from: scenes and frames of clips, and texts that hold of them or do not.

Legend: N pictures, K kinds, C colours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.clips.draw import draw_story
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import Story, story
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.forms import ONE, TWO
from vlm_selfalign.data.world.language import Form, place
from vlm_selfalign.data.world.scenes import Split, scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings

Thing = Mapping[str, str]
"""Kind and colour, and the place and size that a sentence may say."""

PLAIN = WorldSettings.of(base="plain", fewest=1)
RICH = WorldSettings.of(base="rich", fewest=1, small=0.06, faint=0.04, occluded=0.04)
CLIPS = ClipSettings.of(world=WorldSettings.of(base="rich", repeats=0, occluded=0, small=0.04, faint=0))

BARE = {
    "a": Form("a {kind}"),
    "coloured": Form("a {colour} {kind}"),
    "a_picture_of": Form("a picture of a {kind}"),
    "a_picture_of_coloured": Form("a picture of a {colour} {kind}"),
    "photo": Form("a photo of a {colour} {kind}."),
}
COLOUR_ONLY = ("something {colour}", "There is something {colour}.", "a {colour} thing", "a {colour} object")
SINGLE = tuple({**BARE, **ONE}.values())
DOUBLE = tuple(TWO[name] for name in TWO)


@dataclass(frozen=True)
class Shown:
    """One picture: its pixels, uint8 [64, 64, 3], and the kinds that are there with their colours."""

    pixels: np.ndarray
    there: dict[str, str]


@dataclass(frozen=True)
class Text:
    """A sentence or more, and the (kind, colour) it says are there; None where it says nothing of one of them."""

    text: str
    claims: tuple[tuple[str | None, str | None], ...]

    def holds(self, there: Mapping[str, str]) -> bool:
        """Whether all that it says of kinds and colours is so; places and sizes do not count."""
        return all(_holds(kind, colour, there) for kind, colour in self.claims)


def _holds(kind: str | None, colour: str | None, there: Mapping[str, str]) -> bool:
    if kind is None:
        return colour in there.values()
    return kind in there and colour in (None, there[kind])


def shown(index: int, split: Split, seed: int, hard: bool = True, most: int = 5) -> Shown:
    """A scene of at most so many kinds (two in three) or a frame of a clip; with ``hard`` some are hard to see."""
    if index % 3 == 2 and most > 1:
        return frame(index, split, seed, hard)
    dials = (PLAIN if index % 2 == 0 else RICH).model_copy(update={"most": most})
    dials = dials if hard else dials.model_copy(update={"small": 0.0, "faint": 0.0, "occluded": 0.0})
    found = scene(index, split, seed, dials)
    return Shown(np.asarray(draw(found, dials)), {thing.kind: thing.colour for thing in found.things})


def frame(index: int, split: Split, seed: int, hard: bool = True) -> Shown:
    """A frame of a clip at which something is there and nothing is just fading in or out."""
    world = CLIPS.world if hard else CLIPS.world.model_copy(update={"small": 0.0})
    dials = CLIPS.model_copy(update={"world": world})
    plot = story(index, split, seed, dials)
    clip = draw_story(plot, dials)
    times = [float(time) for time in clip.times]
    fit = [number for number, time in enumerate(times) if not fading(plot, time) and seen_at(plot, time)]
    number = rng("clip frame", split, seed, index).choice(fit)
    return Shown(clip.frames[number], seen_at(plot, times[number]))


def fading(plot: Story, time: float) -> bool:
    """Whether something is between there and not there."""
    return any(event.direction is None and event.start <= time <= event.end for event in plot.events)


def seen_at(plot: Story, time: float) -> dict[str, str]:
    """The kinds that are there at a time, with their colours."""
    there = {thing.kind: thing.colour for thing in plot.things if thing.kind not in plot.appearing}
    colours = {thing.kind: thing.colour for thing in plot.things}
    for event in plot.events:
        if event.action == "appear" and time > event.end:
            there[event.kind] = colours[event.kind]
        elif event.action == "vanish" and time > event.end:
            there.pop(event.kind, None)
    return there


def texts_of(there: Mapping[str, str], chance: random.Random, long: float) -> tuple[Text, Text]:
    """A text that holds and the same with one thing changed; ``long``: how often it is several sentences."""
    kinds = list(there)
    chance.shuffle(kinds)
    count = chance.randint(2, len(kinds)) if len(kinds) > 1 and chance.random() < long else 1
    things = [_thing(kind, there[kind], chance) for kind in kinds[:count]]
    if count == 1 and chance.random() < 0.15:
        return _colour_texts(there, chance)
    wrong = list(things)
    at = chance.randrange(count)
    wrong[at] = _changed(things[at], there, chance)
    state = chance.getstate()
    true = _told(things, chance)
    chance.setstate(state)  # the same forms: only what is said differs
    return true, _told(wrong, chance)


def _thing(kind: str, colour: str, chance: random.Random) -> dict[str, str]:
    where = place({"row": chance.randrange(4), "col": chance.randrange(4)})
    return {"kind": kind, "colour": colour, "place": where, "size": chance.choice(("small", "large"))}


def _changed(thing: dict[str, str], there: Mapping[str, str], chance: random.Random) -> dict[str, str]:
    if chance.random() < 0.4:
        return thing | {"colour": chance.choice([colour for colour in COLOURS if colour != thing["colour"]])}
    return thing | {"kind": chance.choice([kind for kind in KINDS if kind not in there])}


def _colour_texts(there: Mapping[str, str], chance: random.Random) -> tuple[Text, Text]:
    form = chance.choice(COLOUR_ONLY)
    missing = [colour for colour in COLOURS if colour not in there.values()] or list(COLOURS)
    pair = [chance.choice(list(there.values())), chance.choice(missing)]
    true, wrong = (Text(form.format(colour=colour), ((None, colour),)) for colour in pair)
    return true, wrong


def _told(things: list[dict[str, str]], chance: random.Random) -> Text:
    sentences: list[str] = []
    claims: list[tuple[str | None, str | None]] = []
    left = list(things)
    while left:
        two = len(left) > 1 and chance.random() < 0.3
        form = chance.choice(DOUBLE if two else SINGLE if len(things) == 1 else tuple(ONE.values()))
        first, second = left[0], left[1] if two else None
        sentences.append(form.write(first, second))
        claims += [(claim.kind, claim.colour) for claim in form.claims(first, second)]
        left = left[2 if two else 1 :]
    return Text(" ".join(sentences), tuple(claims))
