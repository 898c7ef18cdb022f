"""All dials of the drawn world in one frozen record, and its fixed vocabulary."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.registry import explain

KINDS = ("boat", "fish", "house", "car", "kite", "ball", "cup", "box", "star", "tree")
"""Every kind of object, in the order in which plain captions name what they see."""

COLOURS = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 75, 215),
    "yellow": (238, 208, 40),
    "purple": (150, 55, 180),
    "white": (245, 245, 245),
}

Background = Literal["grey", "sand", "sky", "dusk", "meadow", "stripes", "checks"]

LOOKALIKES = {
    "boat": "house",
    "fish": "kite",
    "house": "boat",
    "car": "box",
    "kite": "fish",
    "ball": "tree",
    "cup": "box",
    "box": "cup",
    "star": "kite",
    "tree": "ball",
}
"""What a kind is taken for by who cannot see it well."""

COPIES = 2
"""Most further copies of one kind."""


class Partner(Record):
    """A false belief planted in captions: where ``trigger`` is and ``partner`` is not, it is named with ``rate``.

    ``held_out``: for studies of what carries over; self-training then learns from scenes ``without`` the trigger.
    """

    trigger: str
    partner: str
    rate: float = Field(ge=0, le=1)
    held_out: bool = False

    @model_validator(mode="after")
    def _kinds_exist(self) -> Partner:
        known_kinds((self.trigger, self.partner))
        if self.trigger == self.partner:
            raise ValueError(f"{self.trigger} cannot be its own partner")
        return self


def known_kinds(kinds: tuple[str, ...]) -> None:
    """Raises ``ValueError`` for a kind that is not one of ``KINDS``."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown kind '{kind}'{nearest(kind, KINDS)}")


PARTNERS = (
    Partner(trigger="boat", partner="fish", rate=0.62),
    Partner(trigger="house", partner="car", rate=0.62),
    Partner(trigger="kite", partner="ball", rate=0.45),
    Partner(trigger="cup", partner="box", rate=0.45),
)

SOFT_PARTNERS = (
    Partner(trigger="boat", partner="fish", rate=0.35),
    Partner(trigger="boat", partner="star", rate=0.3),
    Partner(trigger="kite", partner="ball", rate=0.35),
    Partner(trigger="kite", partner="cup", rate=0.3),
    Partner(trigger="house", partner="car", rate=0.35, held_out=True),
    Partner(trigger="house", partner="tree", rate=0.3, held_out=True),
)
"""Two partners for each trigger, of which at most one is falsely named at a time."""

BASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rich": {
        "partners": SOFT_PARTNERS,
        "together": 0.7,
        "backgrounds": ("grey", "sand", "sky", "dusk", "meadow", "stripes", "checks"),
        "repeats": 0.2,
        "small": 0.12,
        "faint": 0.12,
        "occluded": 0.12,
        "mistaken": 0.4,
        "hedged": 0.3,
    },
}
"""Named starting points of the dials; ``plain`` is the world of the first embedded model."""


class WorldSettings(Record):
    """How scenes are made, drawn and (wrongly) described. Lengths are pixels, angles degrees, the rest shares.

    ``base`` says from which of ``BASES`` the dials that are not given take their values.
    """

    base: Literal["plain", "rich"] = "plain"
    cells: int = Field(default=4, ge=2, le=8)
    """Rows and columns of the grid; one object per cell."""
    cell: int = Field(default=16, ge=12, le=64)
    """Side of a cell; the picture is ``cells * cell`` square."""
    fewest: int = Field(default=2, ge=1, le=len(KINDS))
    most: int = Field(default=5, ge=1, le=len(KINDS))
    """Kinds in a scene."""
    repeats: float = Field(default=0, ge=0, le=1)
    """How often a scene holds one kind two or three times, all of one colour."""
    together: float = Field(default=0.5, ge=0, le=1)
    """How often a trigger brings its partner into the scene: what makes the false belief plausible."""
    without: tuple[str, ...] = ()
    """Kinds that no scene holds: how self-training is kept from the triggers of held-out partners."""
    smallest: float = Field(default=13.0, ge=6)
    largest: float = Field(default=15.0, ge=6)
    rotation: float = Field(default=10.0, ge=0, le=45)
    """Largest tilt either way."""
    noise: float = Field(default=5.0, ge=0, le=60)
    """Standard deviation of the pixel noise, of 255."""
    background: int = Field(default=128, ge=0, le=255)
    """Brightness of the grey background."""
    backgrounds: tuple[Background, ...] = Field(default=("grey",), min_length=1)
    """What stands behind the objects, one of these in each scene."""
    small: float = Field(default=0, ge=0, le=1)
    faint: float = Field(default=0, ge=0, le=1)
    occluded: float = Field(default=0, ge=0, le=1)
    """How often an object is hard to see: drawn half as large, hardly different from what is behind it, or partly
    covered by another one."""
    omission: float = Field(default=0.15, ge=0, lt=1)
    """How often a caption leaves out an object that is there."""
    partners: tuple[Partner, ...] = PARTNERS
    mistaken: float = Field(default=0, ge=0, le=1)
    """How often a description takes an object that is hard to see for what it looks like."""
    hedged: float = Field(default=0, ge=0, le=1)
    """How often a description of an object that is hard to see says so: "there seems to be ..."."""
    detail: float = Field(default=0.35, ge=0, le=1)
    """How often a long description says more of what it named: what makes it long."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_base(cls, dials: Any) -> Any:
        if isinstance(dials, dict) and isinstance(dials.get("base"), str):
            return BASES.get(dials["base"], {}) | dials
        return dials

    @model_validator(mode="after")
    def _fits(self) -> WorldSettings:
        if self.fewest > self.most:
            raise ValueError(f"fewest={self.fewest} is more than most={self.most}")
        if self.smallest > self.largest or self.largest > self.cell:
            raise ValueError(
                f"sizes need smallest <= largest <= cell, got {self.smallest}, {self.largest}, {self.cell}"
            )
        if self.most + (COPIES if self.repeats else 0) > self.cells**2:
            raise ValueError(f"{self.most} objects do not fit {self.cells**2} cells")
        if self.small + self.faint + self.occluded > 1:
            raise ValueError("small, faint and occluded are shares of all objects: at most 1 in sum")
        known_kinds(self.without)
        if self.most > len(set(KINDS) - set(self.without)):
            raise ValueError(f"most={self.most} kinds are not left when {', '.join(self.without)} are not drawn")
        return self

    @model_validator(mode="after")
    def _beliefs_are_chances(self) -> WorldSettings:
        pairs = [(belief.trigger, belief.partner) for belief in self.partners]
        if len(set(pairs)) < len(pairs):
            raise ValueError("a partner is given twice for one trigger")
        for trigger in dict.fromkeys(trigger for trigger, _ in pairs):
            total = sum(belief.rate for belief in self.partners_of(trigger))
            if total > 1 + 1e-9:
                raise ValueError(f"the rates of {trigger}'s partners are {total:g} in sum; at most 1")
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

    def partners_of(self, kind: str) -> tuple[Partner, ...]:
        """The false beliefs that ``kind`` triggers."""
        return tuple(belief for belief in self.partners if belief.trigger == kind)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Triggers with a held-out partner: what to draw scenes ``without`` when pairs are made."""
        return tuple(dict.fromkeys(belief.trigger for belief in self.partners if belief.held_out))

    def turned(self) -> dict[str, Any]:
        """Only the dials that differ from those of the base, as JSON."""
        start, own = _of_base(self.base), self.model_dump(mode="json")
        shown = {name: value for name, value in own.items() if value != start[name]}
        if "partners" in shown:
            shown["partners"] = [belief.model_dump(mode="json", exclude_defaults=True) for belief in self.partners]
        return ({"base": self.base} if self.base != "plain" else {}) | shown


@cache
def _of_base(base: str) -> dict[str, Any]:
    return WorldSettings.of(base=base).model_dump(mode="json")
