r"""Where a picture is: a path, or an address with a scheme whose owner knows how to draw it.

A source that makes its pictures up registers how::

    @opener("world")
    def draw(uri: str) -> Image.Image: ...

Paths are written as they are (``C:\x.png`` and ``./world:1.png`` have no scheme), but for names that are not
UTF-8: those become ``file:`` addresses with ``%FF`` for the odd bytes, since records on disk are UTF-8.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import quote_from_bytes, unquote_to_bytes

from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError

Opener = Callable[[str], Image.Image | Clip | bytes]

_openers: dict[str, Opener] = {}
_SCHEME = re.compile(r"([a-z][a-z0-9_+.-]+):")
_NEVER = ("http", "https", "ftp", "data")


def opener(scheme: str) -> Callable[[Opener], Opener]:
    """Register the function that turns ``scheme:...`` into a picture, a whole clip, or the bytes of a file of either.

    Bytes are decoded under the same limits as a file. What it cannot open it refuses with ``MediaError``, ``OSError``,
    ``ValueError`` or ``LookupError``.
    """

    def register(function: Opener) -> Opener:
        _openers[scheme] = function
        return function

    return register


def opener_of(uri: str, scheme: str) -> Opener:
    """The opener of a scheme; a source of that name is imported to find it. Raises ``MediaError`` without one."""
    if scheme in _NEVER:
        raise MediaError(uri, "addresses are not fetched: download it and give the file", "open")
    if scheme not in _openers:
        try:
            resolve("source", scheme)  # importing a source registers its opener
        except UserError as error:
            raise MediaError(
                uri, f"nothing opens '{scheme}:'", "open", f"{error}; a file is './{scheme}:...'"
            ) from None
    if scheme not in _openers:
        raise MediaError(uri, f"nothing opens '{scheme}:'", "open", f"the source '{scheme}' draws no pictures")
    return _openers[scheme]


def scheme_of(uri: str) -> str:
    r"""``world`` of ``world:17``; ``""`` for a path, ``C:\x.png`` included."""
    match = _SCHEME.match(uri)
    return match.group(1) if match else ""


def uri_of(path: str) -> str:
    """The address of a file: the path itself, quoted as ``file:`` only where UTF-8 cannot hold it."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return f"file:{quote(path)}"
    return f"./{path}" if scheme_of(path) else path


def path_of(uri: str) -> str:
    """The path behind a plain or ``file:`` address."""
    return unquote(uri.removeprefix("file:")) if uri.startswith("file:") else uri


def quote(path: str) -> str:
    """A path as plain ASCII: everything odd as ``%FF``."""
    return quote_from_bytes(os.fsencode(path), safe="/ ")


def unquote(quoted: str) -> str:
    """The path again."""
    return os.fsdecode(unquote_to_bytes(quoted))
