"""Pictures that are the same but for their tags, or look alike: told, or left out.

Near duplicates across the line between what is learnt and what is measured make a measurement look better than it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Literal

from tqdm import tqdm

from vlm_selfalign.core.media import Media
from vlm_selfalign.data.cache import Cache
from vlm_selfalign.data.listing import Entries, Entry, Listing
from vlm_selfalign.media.duplicates import difference_hash, exact_groups, near_groups, pixel_hash
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image

Doubles = Literal["auto", "report", "drop", "off"]

FEW = 500
"""Samples up to which looking costs seconds: 1 ms for a small picture, 20 for a JPEG of 12 megapixels (400 as PNG)."""

DRAFT = 100_000
"""Pixels that are enough to compare pictures."""

SAME_PIXELS = "the same pixels as an earlier one"
LOOKS_ALIKE = "looks like an earlier one"


def told_apart(listing: Listing, doubles: Doubles, cache: Cache) -> Listing:
    """The listing without samples that ask the same of the same pixels as an earlier one.

    Of pictures that look alike, ``report`` warns once and lists them as ``alike``; ``drop`` leaves out samples that
    ask the same of them; ``auto`` is ``report`` up to 500 samples, else ``off``. Flat pictures all look alike and
    are not compared, nor are clips.
    """
    if doubles == "off" or (doubles == "auto" and len(listing) > FEW):
        return listing
    known = _by_hash(listing.entries)
    shown = tqdm(known.items(), desc="comparing", unit="picture", delay=2, disable=None, leave=False)
    marks = {name: _mark(one, cache) for name, one in shown}
    first = _first_of(_same_pixels(known, marks, cache))
    _leave_out(listing, first, SAME_PIXELS)
    groups = near_groups({name: mark for name, mark in marks.items() if name not in first})
    if doubles == "drop":
        _leave_out(listing, _first_of(groups), LOOKS_ALIKE)
    else:
        listing.alike = [tuple(known[name].uri for name in group) for group in groups]
        _tell(listing)
    return listing


def _tell(listing: Listing) -> None:
    if listing.alike:
        count, groups, some = sum(map(len, listing.alike)), len(listing.alike), ", ".join(listing.alike[0][:2])
        what = f"{count} pictures look alike, in {groups} group{'s' * (groups > 1)}; first: {some}"
        warnings.warn(f"{listing.where}: {what} (near_duplicates=drop keeps one of each)", stacklevel=4)


def _by_hash(entries: Iterable[Entry]) -> dict[str, Media]:
    """Every picture once, in order."""
    return {m.content_hash: m for entry in entries for m in entry.media if m.kind == "image"}


def _mark(media: Media, cache: Cache) -> int | None:
    """The picture's difference hash; None where there is nothing to compare."""
    known = cache.get("difference", media.content_hash)
    if known is not None:
        return int.from_bytes(known, "big") if known else None
    try:
        mark = difference_hash(load_image(media, draft_pixels=DRAFT))
    except MediaError:
        return None  # it is refused when it is shown
    cache.put(b"" if mark is None else mark.to_bytes(8, "big"), "difference", media.content_hash)
    return mark


def _same_pixels(known: Mapping[str, Media], marks: Mapping[str, int | None], cache: Cache) -> list[tuple[str, ...]]:
    """Groups of content hashes with the same pixels; only pictures of the same mark are decoded in full."""
    candidates = exact_groups({name: mark for name, mark in marks.items() if mark is not None})
    hashes = {name: _pixels(known[name], cache) for name in chain.from_iterable(candidates)}
    return exact_groups({name: found for name, found in hashes.items() if found})


def _pixels(media: Media, cache: Cache) -> str:
    known = cache.get("pixels", media.content_hash)
    if known is not None:
        return known.hex()
    try:
        found = pixel_hash(load_image(media))
    except MediaError:
        return ""
    cache.put(bytes.fromhex(found), "pixels", media.content_hash)
    return found


def _first_of(groups: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """For every later one of a group its first."""
    return {name: group[0] for group in groups for name in group[1:]}


def _leave_out(listing: Listing, first: Mapping[str, str], reason: str) -> None:
    """Keep the first of entries that ask the same where the first of a group stands for all of it."""
    if not first:
        return
    kept, seen = Entries(), set[bytes]()
    for entry in listing.entries:
        key = _key(entry, first)
        if key in seen:
            listing.repeats[reason] += 1
        else:
            seen.add(key)
            kept.append(entry)
    listing.entries = kept


def _key(entry: Entry, first: Mapping[str, str]) -> bytes:
    stands = (m.model_copy(update={"content_hash": first.get(m.content_hash, m.content_hash)}) for m in entry.media)
    return entry._replace(media=tuple(stands)).key
