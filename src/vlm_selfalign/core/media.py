"""A picture or clip by name and content hash, and the views of it that a model may be shown.

Nothing is opened here: a ``Media`` is a promise that ``vlm_selfalign.media`` keeps. Views are lazy,
seeded and stack up::

    photo = Media(kind="image", uri="photos/cat.jpg", content_hash="9f2c...")
    photo.viewed("noise", 0.6, seed=3).viewed("grey")
"""

from __future__ import annotations

from typing import Any, Literal

from vlm_selfalign.core.records import Record


class View(Record):
    """One named degradation: what to do, how strongly (0 = nothing, 1 = most), by which chance."""

    name: str
    amount: float = 1.0
    seed: int = 0


class Media(Record):
    """A picture or a clip (``start`` and ``end`` in seconds), as seen through its views."""

    kind: Literal["image", "video"]
    uri: str
    """Where it is: a path, or a scheme a source understands (``world:...``). Never part of a key."""
    content_hash: str
    """Hex BLAKE2b of the content; this, not the path, is the identity."""
    start: float | None = None
    end: float | None = None
    views: tuple[View, ...] = ()

    def content(self) -> tuple[Any, ...]:
        """Kind, content hash, segment and views; the path never counts."""
        views = tuple(view.content() for view in self.views)
        return ("Media", self.kind, self.content_hash, self.start, self.end, views)

    def viewed(self, name: str, amount: float = 1.0, seed: int = 0) -> Media:
        """The same media through one more view."""
        return self.model_copy(update={"views": (*self.views, View(name=name, amount=amount, seed=seed))})
