"""The drawn world: seeded scenes whose complete truth is known, and a source of samples of them.

``data: {source: world, limit: 800, settings: {split: train}}`` in a recipe. Clips are ``worldclip``; the same in
words, and arithmetic, ``worldtext`` and ``arithmetic``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from PIL import Image
from pydantic import Field

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import source
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.data.world import clips as clips  # importing them makes their sources and openers known
from vlm_selfalign.data.world import draw as drawing
from vlm_selfalign.data.world import texts as texts
from vlm_selfalign.data.world.questions import DESCRIBE
from vlm_selfalign.data.world.scenes import Split, address, located, scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.uris import opener


@opener("world")
def open_picture(uri: str) -> Image.Image:
    """Draw the picture behind ``world:SPLIT/SEED/INDEX``; raises ``MediaError`` for any other address."""
    try:
        return drawing.draw(*located(uri))
    except UserError as error:
        raise MediaError(uri, "no picture of the drawn world", "open", str(error)) from None


def picture(index: int, split: Split = "train", seed: int = 0, dials: WorldSettings | None = None) -> Media:
    """The picture of one scene as media; nothing is drawn until someone opens it."""
    dials = dials or WorldSettings()
    name = address(index, split, seed, dials)
    return Media(kind="image", uri=name, content_hash=digest("world", drawing.DRAWING, name))


@dataclass(frozen=True)
class World:
    """Samples of one split: ``truth`` holds all that is true of the scene, the picture is drawn when it is opened."""

    split: Split
    limit: int
    seed: int
    prompt: str
    dials: WorldSettings

    def __len__(self) -> int:
        return self.limit

    def __iter__(self) -> Iterator[Sample]:
        for index in range(self.limit):
            yield self[index]

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.limit:
            raise IndexError(index)
        media = picture(index, self.split, self.seed, self.dials)
        known = truth(scene(index, self.split, self.seed, self.dials), self.dials)
        return Sample.of(Prompt.user(self.prompt, media), truth=known)


DIALS = WorldSettings()


@source
def world(
    split: Split = "dev",
    limit: Annotated[int, Field(ge=1)] = 200,
    seed: Annotated[int, Field(ge=0)] = 0,
    prompt: str = DESCRIBE,
    dials: WorldSettings = DIALS,
) -> World:
    """Pictures of a drawn world whose truth is known; no two splits share a scene."""
    return World(split, limit, seed, prompt, dials)
