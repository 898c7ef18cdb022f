"""A story as frames: each object is drawn once and then only moved, so that a clip takes some milliseconds."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vlm_selfalign.data.world.backgrounds import backdrop
from vlm_selfalign.data.world.clips.settings import STEPS, ClipSettings
from vlm_selfalign.data.world.clips.stories import TOUCH, Event, Story
from vlm_selfalign.data.world.draw import Sprite, sprite
from vlm_selfalign.data.world.things import Thing
from vlm_selfalign.media.clip import Clip

DRAWING = 1
"""Raise it when the same story gives other pixels: it is part of every clip's content hash."""


def draw_story(story: Story, settings: ClipSettings | None = None) -> Clip:
    """All frames of a clip, uint8 ``[T, H, W, 3]``, with their times."""
    settings = settings or ClipSettings()
    world, times = settings.world, np.arange(settings.frames) / settings.fps
    tracks = [(sprite(thing, world), Track(thing, story, world.cell)) for thing in story.things]
    empty = backdrop(story.background, world.side, world.background)
    frames = np.stack([_frame(empty, tracks, float(time)) for time in times])
    if world.noise:
        grain = np.random.default_rng(story.seed).standard_normal(frames.shape, dtype=np.float32)
        grain *= world.noise
        grain += frames
        np.clip(np.rint(grain, out=grain), 0, 255, out=grain)
        frames = grain.astype(np.uint8)
    return Clip(
        frames=frames,
        times=times,
        indices=np.arange(settings.frames),
        fps=settings.fps,
        total=settings.frames,
        duration=settings.duration,
        backend="drawn",
    )


class Track:
    """Where an object's patch is and how much of it can be seen, at any time."""

    def __init__(self, thing: Thing, story: Story, cell: int) -> None:
        events = [event for event in story.events if event.kind == thing.kind]
        self._turns = [point for event in events for point in _turn(event, thing, cell, story)]
        self._fades = [event for event in events if event.action in ("appear", "vanish")]
        self._first = (float(thing.col * cell), float(thing.row * cell))

    def corner(self, time: float) -> tuple[int, int]:
        """The patch's upper left corner in pixels: straight lines between the turns."""
        x, y = self._first
        for start, end, to_x, to_y in self._turns:
            if time < start:
                break
            share = min(1.0, (time - start) / (end - start))
            x, y = x + share * (to_x - x), y + share * (to_y - y)
        return round(x), round(y)

    def opacity(self, time: float) -> float:
        """0 before it appears and after it vanished, 1 while it is there, between in between."""
        seen = 1.0
        for event in self._fades:
            passed = min(1.0, max(0.0, (time - event.start) / (event.end - event.start)))
            seen = min(seen, passed if event.action == "appear" else 1 - passed)
        return seen


def _turn(event: Event, thing: Thing, cell: int, story: Story) -> list[tuple[float, float, float, float]]:
    """Start, end and where the patch is then, for an event that moves it."""
    if event.direction is None:
        return []
    down, right = STEPS[event.direction]
    touch = TOUCH * cell if event.action == "meet" else 0.0
    row, col = event.cell
    return [(event.start, event.end, col * cell + touch * right, row * cell + touch * down)]


def _frame(empty: Image.Image, tracks: list[tuple[Sprite, Track]], time: float) -> np.ndarray:
    frame = empty.copy()
    for drawn, track in tracks:
        seen = track.opacity(time)
        if seen > 0:
            alpha = drawn.alpha if seen == 1 else drawn.alpha.point([round(seen * value) for value in range(256)])
            frame.paste(drawn.colours, track.corner(time), alpha)
    return np.asarray(frame)
