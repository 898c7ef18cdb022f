"""Why a picture or clip could not be used: one exception, one reason."""

from __future__ import annotations

import os

from vlm_selfalign.core.errors import Drop

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class MediaError(Drop):
    """A picture or clip that cannot be used: which file, why, and at what stage.

    It is a ``Drop``: one bad file gives up its sample and never the run.

    Args:
        path: The file or address; kept as printable text.
        reason: A short text that is the same for every file with this fault, so that it can be counted.
        stage: ``open``, ``header``, ``decode`` or ``view``.
        detail: What is special about this one file (sizes, the decoder's own words).
    """

    def __init__(self, path: AnyPath, reason: str, stage: str, detail: str = "") -> None:
        super().__init__(reason)
        self.path = printable(path)
        self.stage = stage
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (f" ({self.detail})" if self.detail else "")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, str, str]]:
        return type(self), (self.path, self.reason, self.stage, self.detail)


def printable(path: AnyPath) -> str:
    r"""A path as text that prints on one line and encodes as UTF-8: odd bytes as ``\xff``, newlines as ``\n``."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
