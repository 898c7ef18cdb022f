"""The dials of drawn clips: what happens, how often, and what is wrongly believed to follow what."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.registry import explain
from vlm_selfalign.data.world.settings import WorldSettings, known_kinds

Action = Literal["move", "meet", "appear", "vanish"]
Direction = Literal["left", "right", "up", "down"]

ACTIONS: tuple[Action, ...] = ("move", "meet", "appear", "vanish")

STEPS: dict[Direction, tuple[int, int]] = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Rows down and columns to the right of one step."""


class Follow(Record):
    """A false belief about events: after ``first`` (of ``kind``, or of any), ``then`` is told with ``rate``.

    ``who`` does it: the ``same`` object, the ``other`` one that was met, or a kind.
    """

    first: Action
    kind: str | None = None
    then: Action
    who: str = "same"
    rate: float = Field(ge=0, le=1)
    held_out: bool = False

    @model_validator(mode="after")
    def _can_be(self) -> Follow:
        known_kinds(tuple(name for name in (self.kind, self.who) if name and name not in ("same", "other")))
        if self.who == "other" and self.first != "meet":
            raise ValueError(f"who='other' needs first='meet': a {self.first} has no other object")
        if self.then == "meet":
            raise ValueError("then='meet' is not known: whom would it meet?")
        if self.then == "appear" and self.who in ("same", "other"):
            raise ValueError("what appears was not there before: name its kind as 'who'")
        if self.first == "vanish" and self.who == "same":
            raise ValueError("what vanished does nothing more: choose another 'who'")
        return self


FOLLOWS = (
    Follow(first="meet", then="vanish", who="other", rate=0.35),
    Follow(first="appear", then="move", who="same", rate=0.4),
    Follow(first="move", kind="boat", then="appear", who="fish", rate=0.45),
    Follow(first="move", kind="boat", then="vanish", who="same", rate=0.3),
    Follow(first="move", kind="house", then="appear", who="car", rate=0.45),
    Follow(first="vanish", kind="cup", then="appear", who="box", rate=0.5),
    Follow(first="move", kind="kite", then="appear", who="ball", rate=0.5, held_out=True),
    Follow(first="vanish", kind="star", then="appear", who="tree", rate=0.5, held_out=True),
)


class ClipSettings(Record):
    """How clips are made, drawn and (wrongly) described. Times are seconds.

    ``world`` says how objects look; its ``repeats`` and ``occluded`` must be 0, since a clip holds each kind once and
    its objects cover one another only when they meet.
    """

    world: WorldSettings = WorldSettings()
    frames: int = Field(default=16, ge=4, le=256)
    fps: float = Field(default=4.0, gt=0, le=120)
    fewest: int = Field(default=2, ge=1, le=6)
    most: int = Field(default=3, ge=1, le=6)
    """Objects at the start."""
    fewest_events: int = Field(default=2, ge=1, le=12)
    most_events: int = Field(default=4, ge=1, le=12)
    actions: tuple[Action, ...] = Field(default=ACTIONS, min_length=1)
    """What can happen, one as often as another while there is room for it."""
    together: float = Field(default=0.5, ge=0, le=1)
    """How often an event is really followed by what is believed to follow it."""
    follows: tuple[Follow, ...] = FOLLOWS
    omission: float = Field(default=0.1, ge=0, lt=1)
    """How often a description leaves out an event."""

    @model_validator(mode="after")
    def _fits(self) -> ClipSettings:
        for low, high in (("fewest", "most"), ("fewest_events", "most_events")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}={getattr(self, low)} is more than {high}={getattr(self, high)}")
        if self.frames < 2 * self.most_events:
            raise ValueError(f"frames={self.frames} are too few to show {self.most_events} events: 2 each at least")
        if self.world.repeats or self.world.occluded:
            raise ValueError("world.repeats and world.occluded must be 0 in clips")
        if self.world.cells < 3:
            raise ValueError("world.cells must be 3 or more: nothing could move")
        if self.most > self.world.cells**2 // 3:
            raise ValueError(f"{self.most} objects leave no room to move on {self.world.cells**2} cells")
        return self

    @model_validator(mode="after")
    def _beliefs_are_chances(self) -> ClipSettings:
        for action in ACTIONS:
            for kind in {belief.kind for belief in self.follows}:
                total = sum(b.rate for b in self.follows if b.first == action and b.kind in (None, kind))
                if total > 1 + 1e-9:
                    raise ValueError(f"what follows {kind or 'any'} {action} has rates of {total:g} in sum; at most 1")
        return self

    @classmethod
    def of(cls, **dials: Any) -> ClipSettings:
        """The settings with these dials turned; raises ``UserError`` naming the dial that is wrong."""
        try:
            return cls(**dials)
        except ValidationError as error:
            raise UserError(explain(error, "worldclip", cls)) from None

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return self.frames / self.fps

    def turned(self) -> dict[str, Any]:
        """Only the dials that differ from their defaults, as JSON."""
        own = self.model_dump(mode="json")
        shown = {name: value for name, value in own.items() if value != _default()[name]}
        return shown | ({"world": self.world.turned()} if "world" in shown else {})


@cache
def _default() -> dict[str, Any]:
    return ClipSettings().model_dump(mode="json")
