"""One process per run: an advisory lock on a file that names its holder.

with RunLock(folder / "lock"):
    ...
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

from vlm_selfalign.core.disk import disk_errors, write_all
from vlm_selfalign.core.errors import UserError

PATIENCE = (0.02, 0.05, 0.1)
"""Seconds to wait and try again: somebody who only asks who holds the lock holds it for an instant."""

log = logging.getLogger(__name__)

TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class RunLock:
    """Held from construction to ``release()``, and given up by the system when the process dies.

    The lock alone decides, never the name in the file: a dead holder's is taken over, and so is a copied one. Raises
    ``UserError`` with the holder's name when another process has it, and on file systems that have no locks.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with disk_errors(self.path):
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._take()
            self._tell_of_the_dead(_holder(self._fd))
            self._write(json.dumps(_me()))
        except BaseException:
            self._close()
            raise

    def release(self) -> None:
        """Give it up; more than once is fine."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self._write("")
            if fcntl:
                # Unlocking, not just closing: a forked child may still hold a copy of the descriptor.
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._close()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.release()

    def _take(self) -> None:
        if fcntl is None:
            raise self._no_locks("this system has no flock")
        for patience in (*PATIENCE, None):
            try:
                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in NO_LOCKS:
                    raise self._no_locks(str(error.strerror)) from None
                if error.errno not in TAKEN:
                    raise
            if patience:
                time.sleep(patience)
        raise UserError(
            f"{self.path.parent} is in use by {_name(_holder(self._fd))}: wait for it or stop it, "
            "or choose another out="
        )

    def _no_locks(self, why: str) -> UserError:
        return UserError(
            f"{self.path.parent} is on a file system without locks ({why}), where two runs could mix: "
            "choose an out= on a local disk and copy it when it is done"
        )

    def _tell_of_the_dead(self, holder: dict[str, Any] | None) -> None:
        if holder:
            log.warning("%s: taking over from %s, which did not end well", self.path.parent, _name(holder))

    def _write(self, text: str) -> None:
        with disk_errors(self.path):
            os.ftruncate(self._fd, 0)
            write_all(self._fd, text.encode(), 0)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder_of(path: str | Path) -> str | None:
    """Who holds the lock, by name, or None when nobody does; changes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if fcntl:
            # A shared lock is refused just when somebody holds the exclusive one.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as error:
        return _name(_holder(fd)) if error.errno in TAKEN else None
    finally:
        os.close(fd)


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _holder(fd: int) -> dict[str, Any] | None:
    try:
        found = json.loads(os.pread(fd, 4096, 0))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _name(holder: dict[str, Any] | None) -> str:
    if not holder:
        return "another process"
    pid, here = holder.get("pid"), holder.get("host") == socket.gethostname()
    who = "this process" if here and pid == os.getpid() else f"process {pid} on {holder.get('host')}"
    return f"{who}, since {holder.get('since')}"
