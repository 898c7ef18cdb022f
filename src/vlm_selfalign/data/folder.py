"""A folder of pictures and clips, the same question about each; every content once, in the order of the names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.ledger import MARKER
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.cache import Cache, cache_folder
from vlm_selfalign.data.doubles import Doubles, told_apart
from vlm_selfalign.data.files import Kind, media_of_each
from vlm_selfalign.data.listing import DESCRIBE, Entry, Limit, Listing, Refusal
from vlm_selfalign.media.errors import MediaError, printable

PICTURES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff ppm pgm pbm pnm jp2 j2k avif tga"
NOT_READ = "heic heif jxl svg eps psd"  # refused, or an extra reads it; by name, so that their owner knows
CLIPS = "mp4 m4v mov mkv webm avi flv wmv asf ts m2ts mts mpeg mpg ogv 3gp 3g2 ivf"
MOVING = "gif apng"
"""Pictures that are clips where clips alone are asked for."""

LEAVES = "a link out of the folder (outside=true follows it)"

Wanted = Literal["auto", "image", "video"]


@source
def folder(
    path: str,
    limit: Limit = None,
    prompt: str | None = None,
    kind: Wanted = "auto",
    outside: bool = False,
    near_duplicates: Doubles = "auto",
) -> Listing:
    """All pictures and clips under a folder.

    Hidden files, ``Thumbs.db`` and folders that hold a run are passed over; what looks like a picture or clip and is
    none is refused with its reason; the same content is listed once. What a file without extension is, or one with
    a wrong extension, is read from its first bytes.

    Args:
        path: The folder.
        limit: At most so many, the first by name.
        prompt: The question about each; None asks to describe the image, or the video.
        kind: ``image`` or ``video`` for one of them alone. An animated GIF or PNG is a clip for ``video``, and a
            picture (its first frame) otherwise.
        outside: Follow links that leave the folder, and links to folders.
        near_duplicates: Pictures that look alike: ``report``, ``drop`` all but the first, or ``off``; ``auto``
            reports where there are at most 500 samples.

    Raises:
        UserError: No such folder, or nothing usable in it.
    """
    root = _folder(path)
    others: Counter[str] = Counter()
    listing = Listing(path)
    kinds = _kinds(kind)
    paths = sorted(_walk(root, kinds, outside, others, listing), key=os.fsencode)
    with Cache(cache_folder()) as cache:
        each, label = media_of_each(paths, kinds, cache), f"reading {os.path.basename(root)}"
        shown = tqdm(each, desc=label, total=len(paths), unit="file", delay=2, disable=None, leave=False)
        found = _found(paths, shown, others)
        entries = (one if isinstance(one, Refusal) else Entry(prompt or DESCRIBE[one.kind], (one,)) for one in found)
        listing.take(entries, limit)
        if listing.entries:
            return told_apart(listing, near_duplicates, cache)
    what = {"auto": "picture or clip", "image": "picture", "video": "clip"}[kind]
    raise UserError(f"{path}: no {what} in it{_instead(listing, others)}; give a folder with JPEG, PNG or MP4 files")


def _kinds(wanted: Wanted) -> dict[str, Kind]:
    """What to take a file for, by its ending; none of its own counts as one."""
    if wanted == "video":
        return _endings(f"{CLIPS} {MOVING}", "video")
    pictures = _endings(f"{PICTURES} {NOT_READ}", "image")
    return pictures if wanted == "image" else _endings(CLIPS, "video") | pictures


def _endings(names: str, kind: Kind) -> dict[str, Kind]:
    return {"": kind, **{f".{name}": kind for name in names.split()}}


def _folder(path: str) -> str:
    root = os.path.abspath(os.path.expanduser(path))
    if os.path.isfile(root):
        hint = {".jsonl": "; use source=jsonl", ".parquet": "; use source=parquet"}.get(Path(root).suffix, "")
        raise UserError(f"{printable(path)}: a file, not a folder{hint or '; give the folder it is in'}")
    if not os.path.isdir(root):
        raise UserError(f"{printable(path)}: no such folder; give data.path=FOLDER with pictures or clips in it")
    if os.path.exists(os.path.join(root, MARKER)):
        raise UserError(f"{printable(path)}: the output of a run, not pictures; give another folder")
    return root


def _walk(root: str, kinds: dict[str, Kind], outside: bool, others: Counter[str], listing: Listing) -> Iterator[str]:
    """Paths of files that may be pictures or clips."""
    waiting, entered, real_root = [root], set(), os.path.join(os.path.realpath(root), "")
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            with os.scandir(folder) as scan:
                entries = [entry for entry in scan if entry.name == MARKER or not entry.name.startswith(".")]
        except OSError as error:
            reason = f"folder: {(error.strerror or 'not readable').lower()}"
            listing.refused.append(Refusal(printable(folder), reason))
            continue
        if (status.st_dev, status.st_ino) in entered or any(entry.name == MARKER for entry in entries):
            continue  # a link back to a folder above, or a run's own output
        entered.add((status.st_dev, status.st_ino))
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if os.path.isdir(entry.path) if outside else entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif ending not in kinds:
                others[ending] += 1
            elif outside or not entry.is_symlink() or os.path.realpath(entry.path).startswith(real_root):
                yield entry.path
            else:
                listing.refused.append(Refusal(printable(entry.path), LEAVES))


def _found(
    paths: Sequence[str], found: Iterable[Media | MediaError], others: Counter[str]
) -> Iterator[Media | Refusal]:
    for path, one in zip(paths, found, strict=True):
        if not isinstance(one, MediaError):
            yield one
        elif os.path.splitext(path)[1]:
            yield Refusal(printable(path), one.reason, one.detail)
        else:
            others["no extension"] += 1


def _instead(listing: Listing, others: Counter[str]) -> str:
    found = [f"{os.path.basename(one.where)}: {one.reason}" for one in listing.refused[:3]]
    found += [f"{count} {kind}" for kind, count in others.most_common(3)]
    return f" ({'; '.join(found)})" if found else ""
