"""The child's side of ``isolation``: take a task, run it, send what came of it, until the parent is gone."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NamedTuple

from vlm_selfalign.media import shared


class Task(NamedTuple):
    """What to run, how, and where: the parent may have moved since this process began."""

    call: bytes
    """Pickle of (function, args, kwargs)."""
    memory: int
    """Bytes it may take."""
    folder: str
    """Where relative names start."""
    modules: list[str]
    """Where modules are found."""


class Outcome(NamedTuple):
    """What came of a task."""

    result: Any = None
    error: BaseException | None = None


def serve(descriptor: int) -> None:
    """Answer the tasks from a socket."""
    _live_and_die_with_parent()
    shared.share_from_now_on()
    with socket.socket(fileno=descriptor) as channel:
        shared.send(channel, "ready")
        _silence()
        while True:
            try:
                task = shared.receive(channel)
            except EOFError:
                return
            _answer(channel, task)


def _answer(channel: socket.socket, task: Task) -> None:
    outcome = _outcome(task)
    try:
        shared.send(channel, outcome)
    except OSError:
        raise
    except Exception as error:  # what cannot be pickled fails before a byte is sent
        shared.send(channel, Outcome(error=TypeError(f"the result cannot leave its process: {error}")))


def _outcome(task: Task) -> Outcome:
    try:
        _bound(task.memory)
        sys.path[:] = task.modules
        if task.folder:
            os.chdir(task.folder)
        function, args, kwargs = pickle.loads(task.call)
        return Outcome(function(*args, **kwargs))
    except BaseException as error:
        return Outcome(error=_portable(error))


def _portable(error: BaseException) -> BaseException:
    """The exception as it will arrive, with the child's traceback as a note; another one if it cannot travel."""
    note = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a process of its own:\n{note}")
    return error


def _live_and_die_with_parent() -> None:
    """Ignore the parent's Ctrl-C; end when standard input does, which the parent alone holds open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import fcntl

        # The kernel signals the end of the pipe itself: no thread of ours could run beside a decoder that keeps the
        # interpreter's lock. PR_SET_PDEATHSIG would follow the parent's thread, which may end before the process.
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    os.read(0, 1)
    os._exit(0)


def _silence() -> None:
    """Decoders write what they like to the terminal; what matters is in the result."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _bound(memory: int) -> None:
    """No core files, and a ceiling that the kernel keeps; the parent's watch acts before, on what is really used."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            data = int(file.read().split()[5]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        ceiling = data + 2 * memory
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling if hard < 0 else min(ceiling, hard), hard))
