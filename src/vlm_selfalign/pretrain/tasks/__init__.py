"""What the model is taught, one task per file; a new task is a new file and a number in the curriculum.

A task is a module with one function, ``branches(scene, chance, count, dials) -> list[Branch]``: up to ``count``
exchanges about a scene.
"""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass
from typing import Protocol

from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import WorldSettings


@dataclass(frozen=True)
class Branch:
    """One exchange behind a picture: only the answer is learnt.

    ``end_weight`` is the loss weight of the end token: after a one-word answer it is certain and would drown the
    word. ``weight`` is that of every other token. ``sees`` is False for a prompt without the picture.
    ``before`` are finished turns (question, answer) of the same chat.
    """

    question: str
    answer: str
    end_weight: float = 0.1
    sees: bool = True
    before: tuple[tuple[str, str], ...] = ()
    weight: float = 1.0


class Task(Protocol):
    """A module of this package."""

    def branches(self, scene: Scene, chance: random.Random, count: int, dials: WorldSettings) -> list[Branch]:
        """Up to ``count`` exchanges about the scene."""
        ...


def task(name: str) -> Task:
    """The task in ``tasks/<name>.py``."""
    return importlib.import_module(f"{__name__}.{name}")  # type: ignore[return-value]
