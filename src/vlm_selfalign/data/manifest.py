"""What a row of a manifest may say, whatever file it stands in.

====================  =======================================================================================
column                means
====================  =======================================================================================
``image``             path of a picture, relative to the manifest (or ``root``)
``images``            list of such paths, shown in this order
``video``, ``videos``  the same of clips, shown after the pictures
``start``, ``end``    the part of the one clip to look at, in seconds after its first frame
``prompt``/``text``   what is asked; without it the source's prompt, which needs something to be about
``truth``             any JSON, passed on untouched: ``{"objects": [{"kind": "cup", "colour": "red"}]}``
``id``                the row's own name, unique in the manifest
====================  =======================================================================================

A row without pictures and clips is a text-only sample. Other columns are ignored, with one warning.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.media import Media
from vlm_selfalign.data.files import Kind
from vlm_selfalign.data.listing import DESCRIBE, Entry, Refusal
from vlm_selfalign.data.paths import BadRow, Paths
from vlm_selfalign.media.errors import MediaError

SHOWN: dict[Kind, tuple[str, str]] = {"image": ("image", "images"), "video": ("video", "videos")}
"""Columns that show something: one, or a list."""

COLUMNS = ("image", "images", "video", "videos", "start", "end", "prompt", "text", "truth", "id")
MAX_SHOWN = 64
MAX_TEXT = 100_000
MAX_DEPTH = 100
"""Levels of lists and objects in a truth: what is read in one place must not be too deep to be written in another."""


@dataclass
class Rows:
    """Turns rows into entries; knows the names used so far and the columns nobody reads."""

    prompt: str | None
    paths: Paths
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

    def entry(self, row: Any, where: str) -> Entry | Refusal:
        """The entry of a row, or why there is none. ``where`` is named when a later row reuses its id."""
        try:
            return self._entry(row, where)
        except BadRow as error:
            return Refusal(where, error.reason, error.detail)
        except MediaError as error:
            return Refusal(where, error.reason, error.path + (f": {error.detail}" if error.detail else ""))

    def _entry(self, row: Any, where: str) -> Entry:
        if not isinstance(row, Mapping):
            raise BadRow("not an object with columns", shown(row))
        self._warn(row)
        given = ((column, row.get(self.theirs(column))) for column in COLUMNS)
        row = {column: value for column, value in given if value is not None and value != []}
        if not row.keys() - {"truth", "id", "start", "end"}:
            raise BadRow("has no image, images, video, videos, prompt or text")
        name = self._name(row.get("id"))
        if name is not None and name in self._names:
            raise BadRow("its id was used before", f"'{name}' by {self._names[name]}")
        media = self._media(row)
        if _depth(row.get("truth")) > MAX_DEPTH:
            raise BadRow("its truth is nested too deeply", f"at most {MAX_DEPTH} levels")
        entry = Entry(self._prompt(row, media), media, row.get("truth"), name)
        if name is not None:
            self._names[name] = where
        return entry

    def _media(self, row: dict[str, Any]) -> tuple[Media, ...]:
        listed: list[tuple[Kind, Any]] = [
            (kind, given) for kind, columns in SHOWN.items() for given in _listed(row, *columns)
        ]
        if len(listed) > MAX_SHOWN:
            raise BadRow("too many pictures and clips", f"{len(listed)}, at most {MAX_SHOWN}")
        part = _part(row)
        if part and [kind for kind, _ in listed].count("video") != 1:
            raise BadRow("start and end need one video")
        found = [self.paths(given, kind) for kind, given in listed]
        return tuple(one.model_copy(update=part) if one.kind == "video" else one for one in found)

    def _prompt(self, row: dict[str, Any], media: tuple[Media, ...]) -> str:
        if "prompt" in row and "text" in row:
            raise BadRow("has both prompt and text, which mean the same; give one")
        default = self.prompt or DESCRIBE[next((m.kind for m in media), "image")]
        prompt = row.get("prompt", row.get("text", default))
        if not isinstance(prompt, str):
            raise BadRow("its prompt is not text", shown(prompt))
        if not prompt.strip():
            raise BadRow("asks nothing: the prompt is empty")
        if len(prompt) > MAX_TEXT:
            raise BadRow("its prompt is too long", f"{len(prompt):,} characters, at most {MAX_TEXT:,}")
        return prompt

    def _name(self, given: Any) -> str | None:
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise BadRow("its id is not text or a whole number", shown(given))
        name = str(given)
        if not name or len(name) > 200 or not name.isprintable():
            raise BadRow("its id is empty, over 200 characters or not printable", shown(given))
        return name

    def _warn(self, row: Mapping[Any, Any]) -> None:
        for column in row.keys() - self._ignored - {self.theirs(column) for column in COLUMNS}:
            self._ignored.add(column)
            warnings.warn(f"column '{str(column)[:60]}' is ignored{nearest(str(column), COLUMNS)}", stacklevel=2)


def _listed(row: dict[str, Any], one: str, several: str) -> list[Any] | tuple[Any, ...]:
    if one in row and several in row:
        raise BadRow(f"has both {one} and {several}; give one")
    given = row.get(several, [row[one]] if one in row else [])
    if not isinstance(given, list | tuple):
        raise BadRow(f"its {several} are not a list of paths", shown(given))
    return given


def _part(row: dict[str, Any]) -> dict[str, float | None]:
    """The part of a clip to look at; nothing where the row does not say."""
    start, end = _seconds(row, "start"), _seconds(row, "end")
    if end is not None and end <= (start or 0):
        raise BadRow("its end is not after its start", f"{start or 0:g} to {end:g}")
    # From 0 is from the beginning: one part, one identity.
    return {"start": start or None, "end": end} if row.keys() & {"start", "end"} else {}


def _seconds(row: dict[str, Any], column: str) -> float | None:
    value = row.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise BadRow(f"its {column} is not a number of seconds", shown(value))
    return float(value)


def _depth(value: Any) -> int:
    """Levels of lists and objects, counted up to one too many."""
    level, depth = [value], 0
    while (boxes := [one for one in level if isinstance(one, list | dict)]) and depth <= MAX_DEPTH:
        level = [inner for box in boxes for inner in (box.values() if isinstance(box, dict) else box)]
        depth += 1
    return depth


def shown(value: Any) -> str:
    """A value as messages quote it."""
    return repr(value)[:60]
