"""Disks that fail: the k-th system call that changes a file raises, or kills the process in its middle."""

import contextlib
import errno
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

CALLS = ("pwrite", "fsync", "ftruncate", "replace", "unlink")


@contextlib.contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory where there is one, for tests that sync thousands of times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@contextlib.contextmanager
def watched(fault: Callable[[int, str], None]) -> Iterator[None]:
    """Call ``fault(number, name)`` before each changing system call; a write is half done when it is called."""
    real = {name: getattr(os, name) for name in CALLS}
    count = 0

    def calling(name: str) -> Callable:
        def call(*args):
            nonlocal count
            count += 1
            if name == "pwrite":
                fd, data, offset = args
                half = bytes(data)[: len(data) // 2]
                if half:
                    real[name](fd, half, offset)
                fault(count, name)
                return len(half) + real[name](fd, bytes(data)[len(half) :], offset + len(half))
            fault(count, name)
            return real[name](*args)

        return call

    for name in CALLS:
        setattr(os, name, calling(name))
    try:
        yield
    finally:
        for name in CALLS:
            setattr(os, name, real[name])


@contextlib.contextmanager
def failing_at(number: int, code: int = errno.ENOSPC, for_ever: bool = False) -> Iterator[list[str]]:
    """Raise OSError at the call of that number (and at all later ones); yields the names of all calls made."""
    made: list[str] = []

    def fault(count: int, name: str) -> None:
        made.append(name)
        if count == number or (for_ever and count > number):
            raise OSError(code, os.strerror(code))

    with watched(fault):
        yield made


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Run ``work`` in a child that is killed (kill -9) at the call of that number; False when it ended before."""
    child = os.fork()
    if child == 0:
        try:

            def fault(count: int, name: str) -> None:
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            with watched(fault):
                work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the work itself failed"
    return False
