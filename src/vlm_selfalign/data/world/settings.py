"""All dials of the drawn world in one frozen record, and its fixed vocabulary."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, model_validator

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.registry import explain

KINDS = ("boat", "fish", "house", "car", "kite", "ball", "cup", "box", "star", "tree")
"""Every kind of object; captions name what they see in this order, a trigger right before its partner."""

COLOURS = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 75, 215),
    "yellow": (238, 208, 40),
    "purple": (150, 55, 180),
    "white": (245, 245, 245),
}


class Partner(Record):
    """A false belief planted in captions: where ``trigger`` is and ``partner`` is not, it is named with ``rate``."""

    trigger: str
    partner: str
    rate: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _kinds_exist(self) -> Partner:
        unknown = {self.trigger, self.partner} - set(KINDS)
        if unknown:
            raise ValueError(f"unknown kind {sorted(unknown)}; known: {', '.join(KINDS)}")
        if KINDS.index(self.partner) != KINDS.index(self.trigger) + 1:
            raise ValueError(f"{self.partner} does not follow {self.trigger} in the order of captions")
        return self


PARTNERS = (
    Partner(trigger="boat", partner="fish", rate=0.62),
    Partner(trigger="house", partner="car", rate=0.62),
    Partner(trigger="kite", partner="ball", rate=0.45),
    Partner(trigger="cup", partner="box", rate=0.45),
)


class WorldSettings(Record):
    """How scenes are made, drawn and (wrongly) described. Lengths are pixels, angles degrees."""

    cells: int = Field(default=4, ge=2, le=8)
    """Rows and columns of the grid; one object per cell."""
    cell: int = Field(default=16, ge=12, le=64)
    """Side of a cell; the picture is ``cells * cell`` square."""
    fewest: int = Field(default=2, ge=1, le=len(KINDS))
    most: int = Field(default=5, ge=1, le=len(KINDS))
    """Objects in a scene, each of another kind."""
    together: float = Field(default=0.5, ge=0, le=1)
    """How often a trigger brings its partner into the scene: what makes the false belief plausible."""
    smallest: float = Field(default=13.0, ge=6)
    largest: float = Field(default=15.0, ge=6)
    rotation: float = Field(default=10.0, ge=0, le=45)
    """Largest tilt either way."""
    noise: float = Field(default=5.0, ge=0, le=60)
    """Standard deviation of the pixel noise, of 255."""
    background: int = Field(default=128, ge=0, le=255)
    omission: float = Field(default=0.15, ge=0, lt=1)
    """How often a caption leaves out an object that is there."""
    partners: tuple[Partner, ...] = PARTNERS

    @model_validator(mode="after")
    def _fits(self) -> WorldSettings:
        if self.fewest > self.most:
            raise ValueError(f"fewest={self.fewest} is more than most={self.most}")
        if self.smallest > self.largest or self.largest > self.cell:
            raise ValueError(
                f"sizes need smallest <= largest <= cell, got {self.smallest}, {self.largest}, {self.cell}"
            )
        if self.most > self.cells**2:
            raise ValueError(f"{self.most} objects do not fit {self.cells**2} cells")
        if len({partner.trigger for partner in self.partners}) < len(self.partners):
            raise ValueError("a kind may trigger one partner only")
        return self

    @classmethod
    def of(cls, **dials: Any) -> WorldSettings:
        """The settings with these dials turned; raises ``UserError`` naming the dial that is wrong."""
        try:
            return cls(**dials)
        except ValidationError as error:
            raise UserError(explain(error, "world", cls)) from None

    @property
    def side(self) -> int:
        """Width and height of the picture."""
        return self.cells * self.cell

    def partner_of(self, kind: str) -> Partner | None:
        """The false belief that ``kind`` triggers, if any."""
        return next((partner for partner in self.partners if partner.trigger == kind), None)

    def turned(self) -> dict[str, Any]:
        """Only the dials that differ from their defaults, as JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)
