"""What the tiny open_clip model learns from: scenes and frames of clips, and texts that hold of them or do not.

Legend: N pictures, K kinds, C colours.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.clips.draw import Track, draw_story
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import Story, story
from vlm_selfalign.data.world.draw import corner, draw, in_order
from vlm_selfalign.data.world.forms import ONE, TWO
from vlm_selfalign.data.world.language import Form, place
from vlm_selfalign.data.world.scenes import Split, scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings
from vlm_selfalign.data.world.things import Thing

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
PAIRS = tuple((kind, colour) for kind in KINDS for colour in COLOURS)
PATCH = 8
"""Pixels of a patch's side, as the model cuts them."""

LABELS = (*PAIRS, *((kind, None) for kind in KINDS), *((None, colour) for colour in COLOURS))
"""What can be said to be there: a kind of a colour, a kind, something of a colour."""

LEAST = 0.2
"""Of a patch: what takes less of it is not what it shows."""

SINGLE = tuple({**BARE, **ONE}.values())
DOUBLE = tuple(TWO[name] for name in TWO)


@dataclass(frozen=True)
class Shown:
    """One picture: its pixels, uint8 [64, 64, 3], the kinds that are there with their colours, and which is where.

    ``cover``: of each patch [64] the index in ``PAIRS`` of what takes most of it, -1 for nothing.
    """

    pixels: np.ndarray
    there: dict[str, str]
    cover: np.ndarray


def labels(claims: Iterable[tuple[str | None, str | None]]) -> np.ndarray:
    """Which ``LABELS`` these (kind, colour) entail, as 0 and 1."""
    implied = {part for kind, colour in claims for part in ((kind, colour), (kind, None), (None, colour))}
    return np.array([float(label in implied) for label in LABELS], dtype=np.float32)


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


def shown(index: int, split: Split, seed: int, hard: bool = True) -> Shown:
    """A scene (two in three) or a frame of a clip; with ``hard`` some objects are hard to see."""
    if index % 3 == 2:
        return frame(index, split, seed, hard)
    dials = PLAIN if index % 2 == 0 else RICH
    dials = dials if hard else dials.model_copy(update={"small": 0.0, "faint": 0.0, "occluded": 0.0})
    found = scene(index, split, seed, dials)
    places = [(thing, *corner(thing, dials.cell)) for thing in in_order(found.things)]
    there = {thing.kind: thing.colour for thing in found.things}
    return Shown(np.asarray(draw(found, dials)), there, _cover(places, dials))


def frame(index: int, split: Split, seed: int, hard: bool = True) -> Shown:
    """A frame of a clip at which something is there and nothing is just fading in or out."""
    world = CLIPS.world if hard else CLIPS.world.model_copy(update={"small": 0.0})
    dials = CLIPS.model_copy(update={"world": world})
    plot = story(index, split, seed, dials)
    clip = draw_story(plot, dials)
    times = [float(time) for time in clip.times]
    fit = [number for number, time in enumerate(times) if not fading(plot, time) and seen_at(plot, time)]
    number = rng("clip frame", split, seed, index).choice(fit)
    there = seen_at(plot, times[number])
    tracks = [(thing, Track(thing, plot, world.cell)) for thing in plot.things if thing.kind in there]
    places = [(thing, *track.corner(times[number])) for thing, track in tracks]
    return Shown(clip.frames[number], there, _cover(places, world))


def _cover(places: Sequence[tuple[Thing, int, int]], dials: WorldSettings) -> np.ndarray:
    """Which object takes most of each patch, as if each were a square around its centre; later ones lie on top."""
    seen = np.full((dials.side, dials.side), -1)
    for thing, left, top in places:
        x, y = left + dials.cell / 2 + thing.dx, top + dials.cell / 2 + thing.dy
        columns, rows = (slice(max(0, round(at - thing.size / 2)), round(at + thing.size / 2)) for at in (x, y))
        seen[rows, columns] = PAIRS.index((thing.kind, thing.colour))
    side = dials.side // PATCH
    blocks = seen.reshape(side, PATCH, side, PATCH).swapaxes(1, 2).reshape(side * side, -1)
    shares = [np.bincount(block + 1, minlength=len(PAIRS) + 1)[1:] / block.size for block in blocks]
    return np.array([share.argmax() if share.max() >= LEAST else -1 for share in shares])


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
