"""What a row of a manifest may say, whatever file it stands in.

=================  ==========================================================================================
column             means
=================  ==========================================================================================
``image``          path of a picture, relative to the manifest (or ``root``)
``images``         list of such paths, shown in this order
``prompt``/``text``  what is asked; without it the source's prompt, which needs a picture to be about
``truth``          any JSON, passed on untouched: ``{"objects": [{"kind": "cup", "colour": "red"}]}``
``id``             the row's own name, unique in the manifest
=================  ==========================================================================================

A row without pictures is a text-only sample. Other columns are ignored, with one warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.data.listing import Entry
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.files import open_bytes
from vlm_selfalign.media.image import header_of, image_media
from vlm_selfalign.media.uris import scheme_of

COLUMNS = ("image", "images", "prompt", "text", "truth", "id")
MAX_PICTURES = 64
MAX_TEXT = 100_000

Picture = tuple[str, str]
"""Address and content hash."""


@dataclass(frozen=True)
class Inline:
    """A picture whose file is inside the table: its bytes, and the address under which they are found again."""

    uri: str
    data: bytes = field(repr=False)


class BadRow(ValueError):
    """A row that cannot be used; the message is the reason."""


@dataclass
class Paths:
    """Turns what a row calls a picture into its address and content hash; each file is read once."""

    root: str
    outside: bool = False
    _known: dict[str, Picture] = field(default_factory=dict)

    def __call__(self, path: Any) -> Picture:
        """Raises ``BadRow`` or ``MediaError``."""
        if isinstance(path, Inline):
            with open_bytes(path.data, path.uri) as file:
                return path.uri, header_of(file, path.uri).content_hash
        if not isinstance(path, str) or not path:
            raise BadRow(f"image is {_shown(path)}, not a path")
        if path not in self._known:
            media = image_media(self._inside(path))
            self._known[path] = (media.uri, media.content_hash)
        return self._known[path]

    def _inside(self, path: str) -> str:
        if "\0" in path:
            raise BadRow("image: a path with a NUL byte")
        if scheme_of(path):
            raise BadRow(f"image: '{path[:60]}' is an address, not a path; download it first")
        if self.outside:
            return os.path.join(self.root, path)
        if os.path.isabs(path) or ".." in path.replace("\\", "/").split("/"):
            raise BadRow(f"image: '{path[:60]}' is not under the manifest's folder (outside=true allows it)")
        full = os.path.join(self.root, path)
        if not os.path.realpath(full).startswith(os.path.join(os.path.realpath(self.root), "")):
            raise BadRow(f"image: '{path[:60]}' is a link out of the manifest's folder (outside=true allows it)")
        return full


@dataclass
class Rows:
    """Turns rows into entries; knows the names used so far and the columns nobody reads."""

    prompt: str
    picture: Callable[[Any], Picture]
    columns: Mapping[str, str] = field(default_factory=dict)
    """Where ours are called something else: ``{"prompt": "question"}``."""
    _names: dict[str, str] = field(default_factory=dict)
    _ignored: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for ours in self.columns:
            if ours not in COLUMNS:
                raise UserError(f"columns.{ours}: no such column{nearest(ours, COLUMNS)}")

    def theirs(self, column: str) -> str:
        """What the manifest calls our column."""
        return self.columns.get(column, column)

    def entry(self, row: Any, where: str) -> Entry | str:
        """The entry of a row, or the reason there is none. ``where`` is named when a later row reuses its id."""
        try:
            return self._entry(row, where)
        except BadRow as error:
            return str(error)
        except MediaError as error:
            return f"image {error.path}: {error.reason}"

    def _entry(self, row: Any, where: str) -> Entry:
        if not isinstance(row, Mapping):
            raise BadRow(f"{_shown(row)} is not an object with columns")
        self._warn(row)
        given = ((column, row.get(self.theirs(column))) for column in COLUMNS)
        row = {column: value for column, value in given if value is not None}
        if not row.keys() & {"image", "images", "prompt", "text"}:
            raise BadRow("has no image, images, prompt or text")
        name = self._name(row.get("id"))
        if name is not None and name in self._names:
            raise BadRow(f"id '{name}' was used by {self._names[name]}")
        pictures = self._pictures(row)
        entry = Entry(self._prompt(row), pictures, row.get("truth"), name)
        if name is not None:
            self._names[name] = where
        return entry

    def _pictures(self, row: dict[str, Any]) -> tuple[Picture, ...]:
        if "image" in row and "images" in row:
            raise BadRow("has both image and images; give one")
        given = row.get("images", [row["image"]] if "image" in row else [])
        if not isinstance(given, list | tuple):
            raise BadRow(f"images is {_shown(given)}, not a list of paths")
        if len(given) > MAX_PICTURES:
            raise BadRow(f"has {len(given)} images, at most {MAX_PICTURES}")
        return tuple(self.picture(one) for one in given)

    def _prompt(self, row: dict[str, Any]) -> str:
        if "prompt" in row and "text" in row:
            raise BadRow("has both prompt and text, which mean the same; give one")
        prompt = row.get("prompt", row.get("text", self.prompt))
        if not isinstance(prompt, str):
            raise BadRow(f"prompt is {_shown(prompt)}, not text")
        if not prompt.strip():
            raise BadRow("asks nothing: the prompt is empty")
        if len(prompt) > MAX_TEXT:
            raise BadRow(f"prompt has {len(prompt):,} characters, at most {MAX_TEXT:,}")
        return prompt

    def _name(self, given: Any) -> str | None:
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise BadRow(f"id is {_shown(given)}, not text or a whole number")
        name = str(given)
        if not name or len(name) > 200 or not name.isprintable():
            raise BadRow(f"id {_shown(given)} is empty, over 200 characters or not printable")
        return name

    def _warn(self, row: Mapping[Any, Any]) -> None:
        for column in row.keys() - self._ignored - {self.theirs(column) for column in COLUMNS}:
            self._ignored.add(column)
            warnings.warn(f"column '{str(column)[:60]}' is ignored{nearest(str(column), COLUMNS)}", stacklevel=2)


def _shown(value: Any) -> str:
    return repr(value)[:60]
