"""What a manifest calls a picture or clip, as ``Media``; nothing outside its folder, nothing from a network unasked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from vlm_selfalign.core.media import Media
from vlm_selfalign.data.cache import Cache
from vlm_selfalign.data.fetch import fetched
from vlm_selfalign.data.files import Kind, media_inside, media_of
from vlm_selfalign.media.uris import scheme_of


@dataclass(frozen=True)
class Inline:
    """A file that is inside the table: its bytes, and the address under which they are found again."""

    uri: str
    data: bytes = field(repr=False)


class BadRow(ValueError):
    """A row that cannot be used: a reason that can be counted, and what is special about this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass
class Paths:
    """Turns what a row calls a picture or clip into ``Media``; each file is looked at once."""

    root: str
    outside: bool = False
    """Whether paths may leave ``root``."""
    urls: bool = False
    """Whether pictures may be fetched from https addresses."""
    cache: Cache = field(default_factory=lambda: Cache(None))
    _known: dict[tuple[Kind, str], Media] = field(default_factory=dict)

    def __call__(self, path: Any, kind: Kind) -> Media:
        """Raises ``BadRow`` or ``MediaError``."""
        if isinstance(path, Inline):
            return media_inside(path.data, path.uri, kind)
        if not isinstance(path, str) or not path:
            raise BadRow(f"its {kind} is not a path", repr(path)[:60])
        if (kind, path) not in self._known:
            self._known[kind, path] = media_of(self._file(path, kind), kind, self.cache)
        return self._known[kind, path]

    def _file(self, path: str, kind: Kind) -> str:
        if "\0" in path:
            raise BadRow("a path with a NUL byte")
        if scheme := scheme_of(path.lower()):
            if self.urls and scheme == "https" and kind == "image":
                return fetched(path, self.cache)
            hint = " (urls=true fetches https)" if scheme == "https" and kind == "image" else ""
            raise BadRow(f"an address, not a path; download it first{hint}", path[:60])
        if self.outside:
            return os.path.join(self.root, path)
        if os.path.isabs(path) or ".." in path.replace("\\", "/").split("/"):
            raise BadRow("a path that is not under the manifest's folder (outside=true allows it)", path[:60])
        full = os.path.join(self.root, path)
        if not os.path.realpath(full).startswith(os.path.join(os.path.realpath(self.root), "")):
            raise BadRow("a link out of the manifest's folder (outside=true allows it)", path[:60])
        return full
