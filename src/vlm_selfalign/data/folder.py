"""A folder of pictures, the same question about each; every content once, in the order of the names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.ledger import MARKER
from vlm_selfalign.core.registry import source
from vlm_selfalign.data.listing import Entry, Limit, Listing
from vlm_selfalign.media.errors import MediaError, printable
from vlm_selfalign.media.image import image_media

PICTURES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff ppm pgm pbm pnm jp2 j2k avif tga"
NOT_READ = "heic heif jxl svg eps psd"  # refused, but by name: their owner should know
EXTENSIONS = frozenset(f".{name}" for name in f"{PICTURES} {NOT_READ}".split())


@source
def folder(path: str, limit: Limit = None, prompt: str = "Describe the image.", outside: bool = False) -> Listing:
    """All pictures under a folder.

    Hidden files, ``Thumbs.db`` and folders that hold a run are passed over; what looks like a picture and is none is
    refused with its reason; the same content is listed once. Whether a file without extension is a picture is read
    from its first bytes.

    Args:
        path: The folder.
        limit: At most so many pictures, the first by name.
        prompt: The question about each.
        outside: Follow links that leave the folder, and links to folders.

    Raises:
        UserError: No such folder, or no usable picture in it.
    """
    root = _folder(path)
    others: Counter[str] = Counter()
    listing = Listing(path)
    paths = sorted(_walk(root, outside, others, listing), key=os.fsencode)
    shown = tqdm(paths, desc=f"reading {os.path.basename(root)}", unit="file", delay=2, disable=None, leave=False)
    listing.take(_pictures(shown, root, prompt, outside, others), limit)
    if listing.entries:
        return listing
    raise UserError(f"{path}: no picture in it{_instead(listing, others)}; give a folder with JPEG, PNG or WebP files")


def _folder(path: str) -> str:
    root = os.path.abspath(os.path.expanduser(path))
    if os.path.isfile(root):
        hint = {".jsonl": "; use source=jsonl", ".parquet": "; use source=parquet"}.get(Path(root).suffix, "")
        raise UserError(f"{printable(path)}: a file, not a folder{hint or '; give the folder it is in'}")
    if not os.path.isdir(root):
        raise UserError(f"{printable(path)}: no such folder; give data.path=FOLDER with pictures in it")
    if os.path.exists(os.path.join(root, MARKER)):
        raise UserError(f"{printable(path)}: the output of a run, not pictures; give another folder")
    return root


def _walk(root: str, outside: bool, others: Counter[str], listing: Listing) -> Iterator[str]:
    """Paths of files that may be pictures, and of links that cannot be followed."""
    waiting, entered = [root], set()
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            with os.scandir(folder) as scan:
                entries = [entry for entry in scan if entry.name == MARKER or not entry.name.startswith(".")]
        except OSError as error:
            listing.refused.append((printable(folder), f"folder: {(error.strerror or 'not readable').lower()}"))
            continue
        if (status.st_dev, status.st_ino) in entered or any(entry.name == MARKER for entry in entries):
            continue  # a link back to a folder above, or a run's own output
        entered.add((status.st_dev, status.st_ino))
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if os.path.isdir(entry.path) if outside else entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif ending in EXTENSIONS or not ending:
                yield entry.path
            else:
                others[ending] += 1


def _pictures(
    paths: Iterator[str] | tqdm[str], root: str, prompt: str, outside: bool, others: Counter[str]
) -> Iterator[tuple[str, Entry | str]]:
    real_root = os.path.join(os.path.realpath(root), "")
    for path in paths:
        if not outside and os.path.islink(path) and not os.path.realpath(path).startswith(real_root):
            yield printable(path), "a link out of the folder (outside=true follows it)"
            continue
        try:
            media = image_media(path)
        except MediaError as error:
            if os.path.splitext(path)[1]:
                yield printable(path), error.reason
            else:
                others["no extension"] += 1
            continue
        yield printable(path), Entry(prompt, ((media.uri, media.content_hash),))


def _instead(listing: Listing, others: Counter[str]) -> str:
    found = [f"{os.path.basename(path)}: {reason}" for path, reason in listing.refused[:3]]
    found += [f"{count} {kind}" for kind, count in others.most_common(3)]
    return f" ({'; '.join(found)})" if found else ""
