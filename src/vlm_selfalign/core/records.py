"""What is written to disk: frozen, closed, and with an identity that is its content.

Smallest use::

    class Point(Record):
        x: int

    Point(x=1).digest == Point(x=1).digest     # a content hash, stable between runs
    Point.model_validate_json(Point(x=1).model_dump_json())
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from vlm_selfalign.core.seeds import digest


class Record(BaseModel):
    """A frozen pydantic model that refuses unknown fields and knows its content hash."""

    # Infinity must survive the disk: by default pydantic writes null, and a choice of probability 0 is not read back.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants")

    def content(self) -> tuple[Any, ...]:
        """What counts for identity; ``Media`` overrides it so that a path never does."""
        return (type(self).__name__, *(_plain(getattr(self, name)) for name in type(self).model_fields))

    @property
    def digest(self) -> str:
        """Hex BLAKE2b (128 bit) of ``content()``."""
        return digest(self.content())


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.content()
    if isinstance(value, (tuple, list)):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in sorted(value.items())}
    return value
