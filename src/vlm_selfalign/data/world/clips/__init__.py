"""Drawn clips: seeded stories whose complete truth is known, and a source of samples of them.

``data: {source: worldclip, limit: 800, settings: {split: train}}`` in a recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import source
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.data.world.clips import draw as drawing
from vlm_selfalign.data.world.clips.questions import DESCRIBE_CLIP
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import address, located, story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.data.world.scenes import Split
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.uris import opener


@opener("worldclip")  # type: ignore[arg-type]
def draw_clip(uri: str) -> Clip:
    """All frames of the clip behind ``worldclip:SPLIT/SEED/INDEX``; raises ``MediaError`` for any other address."""
    try:
        return drawing.draw_story(*located(uri))
    except UserError as error:
        raise MediaError(uri, "no clip of the drawn world", "open", str(error)) from None


def clip(index: int, split: Split = "train", seed: int = 0, dials: ClipSettings | None = None) -> Media:
    """One clip as media; nothing is drawn until someone opens it."""
    name = address(index, split, seed, dials or ClipSettings())
    return Media(kind="video", uri=name, content_hash=digest("worldclip", drawing.DRAWING, name))


@dataclass(frozen=True)
class WorldClips:
    """Samples of one split: ``truth`` holds objects and events, the frames are drawn when they are opened."""

    split: Split
    limit: int
    seed: int
    prompt: str
    dials: ClipSettings

    def __len__(self) -> int:
        return self.limit

    def __iter__(self) -> Iterator[Sample]:
        for index in range(self.limit):
            yield self[index]

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.limit:
            raise IndexError(index)
        media = clip(index, self.split, self.seed, self.dials)
        known = clip_truth(story(index, self.split, self.seed, self.dials), self.dials)
        return Sample.of(Prompt.user(self.prompt, media), truth=known)


DIALS = ClipSettings()


@source
def worldclip(
    split: Split = "dev",
    limit: Annotated[int, Field(ge=1)] = 200,
    seed: Annotated[int, Field(ge=0)] = 0,
    prompt: str = DESCRIBE_CLIP,
    dials: ClipSettings = DIALS,
) -> WorldClips:
    """Clips of a drawn world whose truth is known; no two splits share a story."""
    return WorldClips(split, limit, seed, prompt, dials)
