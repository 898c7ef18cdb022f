"""One drawn object."""

from __future__ import annotations

from vlm_selfalign.core.records import Record


class Thing(Record):
    """One object: what it is, its cell, and where exactly it is drawn (pixels from the cell's centre, degrees).

    ``push_x`` and ``push_y`` (pixels) shift it out of its cell over another one; a higher ``layer`` is drawn later.
    """

    kind: str
    colour: str
    row: int
    col: int
    dx: float
    dy: float
    size: float
    angle: float
    opacity: float = 1.0
    push_x: int = 0
    push_y: int = 0
    layer: int = 0
