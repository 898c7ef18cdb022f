"""Writing so that a kill, a full disk or a power cut leaves the old file or the new one, never half of each.

    write_atomic("metrics.json", text)
    with atomic("rows.jsonl") as write:
        for line in lines:
            write(line)

Both raise ``TryAgain`` when the disk is full or fails and ``UserError`` when the place cannot be written at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from vlm_selfalign.core.errors import TryAgain, UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FAILING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.ENODEV, errno.EMFILE, errno.ENFILE}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
ODD = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EEXIST}

CHUNK = 1 << 20


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Say in one line what the disk's refusal means for the run. Raises ``TryAgain`` or ``UserError``."""
    try:
        yield
    except OSError as error:
        raise _explained(error, Path(path)) from error


def _explained(error: OSError, path: Path) -> Exception:
    what = f"{path}: {error.strerror or error}"
    if error.errno in FULL:
        return TryAgain(f"{what} ({_free(path)}): free some space and run the same command; nothing finished is lost")
    if error.errno in FAILING:
        return TryAgain(f"{what}: check the disk and run the same command; nothing finished is lost")
    if error.errno in REFUSED:
        return UserError(f"{what}: make it writable, or choose another out=")
    if error.errno in ODD:
        return UserError(f"{what}: choose another out=, or put the folder back")
    return error


def _free(path: Path) -> str:
    for folder in path.absolute().parents:
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(folder).free >> 20} MB free"
    return "free space unknown"


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write every byte at ``offset``, however many calls that takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network file systems cannot sync a folder; they make renames durable themselves.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(fd)


def make_folder(folder: str | Path) -> Path:
    """Create a folder and its parents, durably. Raises ``UserError`` where that is refused."""
    folder = Path(folder)
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            sync_folder(made.parent)
    return folder


class _Buffered:
    """Gathers small pieces into large writes."""

    def __init__(self, fd: int) -> None:
        self.fd, self.offset, self.waiting = fd, 0, bytearray()

    def write(self, data: bytes) -> None:
        self.waiting += data
        if len(self.waiting) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        write_all(self.fd, bytes(self.waiting), self.offset)
        self.offset += len(self.waiting)
        self.waiting.clear()


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Callable[[bytes], None]]:
    """A new file under its own name only once it is whole and durable (write aside, sync, rename, sync the folder).

    Yields a function that takes bytes. An exception inside leaves the old file as it was.
    """
    path = Path(path)
    # One fixed name: what a kill leaves behind is overwritten by the next try and never piles up.
    aside = path.with_name(path.name + ".tmp")
    with disk_errors(path):
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    buffered = _Buffered(fd)

    def write(data: bytes) -> None:
        with disk_errors(path):
            buffered.write(data)

    try:
        try:
            yield write
            with disk_errors(path):
                buffered.flush()
                os.fsync(fd)
        finally:
            os.close(fd)
        with disk_errors(path):
            os.replace(aside, path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Replace a file's content in one step. Raises ``TryAgain`` (disk full or failing) or ``UserError``."""
    with atomic(path) as write:
        write(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
