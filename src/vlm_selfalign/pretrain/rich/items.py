"""What exchanges are about: a picture, a clip, or a text that tells of one, each with its complete truth."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.clips.descriptions import describe_clip
from vlm_selfalign.data.world.clips.questions import asked_of_clip
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import Story, story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.data.world.descriptions import describe
from vlm_selfalign.data.world.questions import Question, asked
from vlm_selfalign.data.world.scenes import Scene, Split, scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.data.world.twins import in_words, told_in_words, twin_questions
from vlm_selfalign.pretrain.packing import PICTURE, Head

Medium = Literal["picture", "clip", "text"]

DIALS = WorldSettings.of(base="rich")
CROWDED = WorldSettings.of(base="rich", fewest=8, most=10)
"""Pictures for the vision tower alone: three times as many objects to learn from at the cost of one picture."""
CLIP_DIALS = ClipSettings()

SLOTS = CLIP_DIALS.frames // 2
"""Pairs of frames, of which the vision tower makes one layer of visual tokens each."""


@dataclass(frozen=True)
class Item:
    """A scene or a story, shown (``picture``, ``clip``) or told in ``words`` (``text``)."""

    medium: Medium
    of: Scene | Story
    words: str = ""

    @cached_property
    def truth(self) -> Mapping[str, Any]:
        """All that is true of it."""
        return truth(self.of, DIALS) if isinstance(self.of, Scene) else clip_truth(self.of, CLIP_DIALS)

    @property
    def head(self) -> Head:
        """How a row about it begins."""
        if self.medium == "text":
            return Head(text=self.words + "\n")
        return Head(slots=SLOTS) if self.medium == "clip" else PICTURE

    @property
    def noun(self) -> str:
        """What its questions call it."""
        told = "scene" if isinstance(self.of, Scene) else "story"
        return {"picture": "image", "clip": "clip", "text": told}[self.medium]

    def asked(self, task: str, chance: random.Random, count: int | None = None) -> list[Question]:
        """Questions of one task of the world, or pairs of them."""
        if self.medium == "text":
            return twin_questions(self.truth, task, chance, DIALS.partners, count)
        if self.medium == "clip":
            return asked_of_clip(self.truth, task, chance, count)
        return asked(self.truth, task, chance, DIALS.partners, count)

    def described(self, chance: random.Random) -> str:
        """A long description, with the falsehoods that its teacher believes in."""
        if isinstance(self.of, Scene):
            return describe(self.of, chance, DIALS).text
        return describe_clip(self.of, chance, CLIP_DIALS).text


def crowded(index: int) -> Item:
    """Crowded picture number ``index`` of the training split."""
    return Item("picture", scene(index, "train", 0, CROWDED))


def item(medium: Medium, index: int, split: Split, seed: int = 0) -> Item:
    """Item number ``index``; of texts every other one tells of a clip. The same arguments give the same item."""
    if medium == "picture":
        return Item(medium, scene(index, split, seed, DIALS))
    if medium == "clip":
        return Item(medium, story(index, split, seed, CLIP_DIALS))
    chance = rng("text", split, seed, index)
    if index % 2:
        told = story(index, split, seed + 1, CLIP_DIALS)
        return Item(medium, told, told_in_words(told, chance, CLIP_DIALS))
    shown = scene(index, split, seed + 1, DIALS)
    return Item(medium, shown, in_words(shown, chance, DIALS))
