"""Run a function where it can be killed: a decoder that hangs, eats memory or dies costs its item and nothing else.

    clip = isolated(read, path, request, limits=Limits(seconds=30))

A timeout inside the process does not work: no signal handler runs until the decoder comes back. So the function runs
in a child, which is kept warm for the next call and killed when it is late. Arrays come back in shared memory. Calls
from several threads run in several children; after a fork the new process starts its own. A child ends with its
parent, however that ends. This guards against broken files, not against malicious code in a decoder.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from vlm_selfalign.media import shared
from vlm_selfalign.media.child import Outcome, Task
from vlm_selfalign.media.errors import MediaError

log = logging.getLogger(__name__)

R = TypeVar("R")

START = 60.0
"""Seconds a child may take to start; not part of a call's own limit."""

TASKS = 500
"""Calls after which a child is replaced, so that what decoders leak does not pile up."""

_PULSE = 0.02  # seconds between two looks at a child's memory


@dataclass(frozen=True)
class Limits:
    """What one call may take."""

    seconds: float = 30.0
    memory: int = 2 << 30
    """Bytes resident in the child, its result included."""


class _Broken(Exception):
    """Why a child is of no more use."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class _Child:
    """One process that serves one call at a time."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        with theirs:
            code = f"import sys; sys.path[:] = {sys.path!r}; from vlm_selfalign.media.child import serve; "
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"{code}serve({theirs.fileno()})"],
                stdin=subprocess.PIPE,  # held open by us alone: when we are gone it ends, and so does the child
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # no threads it has no use for
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C on the terminal is ours to handle
            )
        self.tasks = 0
        self._started = False

    def start(self) -> None:
        """Wait until it takes tasks."""
        if self._started:
            return
        try:
            shared.receive(self.channel, _Watch(self, Limits(seconds=START, memory=sys.maxsize)))
        except (_Broken, EOFError, OSError) as error:
            raise RuntimeError(f"no process to decode in ({error}): what it said is above") from None
        self._started = True

    def run(self, task: Task, limits: Limits) -> Outcome:
        """What came of a task. Raises ``_Broken`` when it does not end by itself."""
        self.tasks += 1
        try:
            shared.send(self.channel, task)
            outcome = shared.receive(self.channel, _Watch(self, limits))
        except (EOFError, ConnectionError):
            raise _Broken("the decoder died", self._cause()) from None
        if isinstance(outcome.error, MemoryError):
            raise _Broken(_too_much(limits), str(outcome.error))
        return outcome

    def alive(self) -> bool:
        """Whether it may still be asked."""
        return self.process.poll() is None and self.tasks < TASKS

    def resident(self) -> int:
        """Bytes of memory it holds now; 0 where the system does not tell."""
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        return 0

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.process.kill()
        # A process that the kernel holds (a dead network disk) cannot be waited for; it goes when the kernel lets go.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)
        self.forget()

    def forget(self) -> None:
        """Let go of what is held for it."""
        self.channel.close()
        if self.process.stdin:
            self.process.stdin.close()

    def _cause(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(timeout=1)
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ""


class _Watch:
    """Waits until a child says something; raises ``_Broken`` when it takes too long or too much."""

    def __init__(self, child: _Child, limits: Limits) -> None:
        self._child, self._limits = child, limits
        self._deadline = time.monotonic() + limits.seconds
        self._poll = select.poll()  # select() cannot take descriptors above 1023
        self._poll.register(child.channel, select.POLLIN)

    def __call__(self) -> None:
        while not self._poll.poll(_PULSE * 1000):
            if time.monotonic() > self._deadline:
                raise _Broken(f"took longer than {self._limits.seconds:g} s")
            if self._child.resident() > self._limits.memory:
                raise _Broken(_too_much(self._limits))


class _Pool:
    """The children of this process: as many as calls ever ran at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[_Child] = []
        self.children: set[_Child] = set()

    def take(self) -> _Child:
        """One that is ready, warm if there is one."""
        # Starting under the lock: a fork in that moment would give the new process a hold on the child's lifeline.
        with self.lock:
            while self.idle:
                child = self.idle.pop()
                if child.alive():
                    return child
                self.children.discard(child)
                child.kill()
            child = _Child()
            self.children.add(child)
        try:
            child.start()
        except BaseException:
            self.drop(child)
            raise
        return child

    def give_back(self, child: _Child) -> None:
        """It has done its task."""
        with self.lock:
            self.idle.append(child)

    def drop(self, child: _Child) -> None:
        """It is of no more use."""
        with self.lock:
            self.children.discard(child)
        child.kill()

    def close(self) -> None:
        """End all of them."""
        with self.lock:
            children, self.idle, self.children = self.children, [], set()
        for child in children:
            child.kill()

    def after_fork(self) -> None:
        """The parent's children are not ours: let go, and leave them alive."""
        for child in self.children:
            child.process.returncode = 0  # not ours to wait for
            child.forget()
        self.lock, self.idle, self.children = threading.Lock(), [], set()


_pool = _Pool()
atexit.register(_pool.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _pool.lock.acquire(),
        after_in_parent=lambda: _pool.lock.release(),
        after_in_child=_pool.after_fork,
    )

close = _pool.close
"""End the children of this process; the next call starts a new one."""


def isolated(function: Callable[..., R], *args: Any, limits: Limits = Limits(), **kwargs: Any) -> R:
    """``function(*args, **kwargs)`` in a child process, which is killed when it exceeds ``limits``.

    Args:
        function: Importable by its module and name. Large arrays in its result are not copied where it made them by
            ``shared.empty``, and else once.
        *args: What it takes; the first one names the item in errors.
        limits: What it may take.
        **kwargs: What else it takes.

    Raises:
        MediaError: It took too long or too much memory, or the process died.
        Exception: Whatever the function raises, with the child's traceback as a note.
    """
    if not hasattr(socket, "send_fds"):
        _say_unguarded()
        return function(*args, **kwargs)
    call = pickle.dumps((function, args, kwargs), protocol=5)
    task = Task(call, limits.memory, _folder(), sys.path)
    child = _pool.take()
    try:
        outcome = child.run(task, limits)
    except _Broken as broken:
        _pool.drop(child)
        raise MediaError(_name(function, args), broken.reason, "decode", broken.detail) from None
    except BaseException:
        _pool.drop(child)  # Ctrl-C: its answer is still under way
        raise
    _pool.give_back(child)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def _too_much(limits: Limits) -> str:
    return f"more memory than {limits.memory >> 20:,} MiB"


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # somebody removed it: nothing relative can be meant
        return ""


def _name(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    first = args[0] if args else None
    return os.fsdecode(first) if isinstance(first, str | bytes | os.PathLike) else function.__qualname__


@cache
def _say_unguarded() -> None:
    log.warning("this system cannot pass memory between processes: clips are decoded without limits of time and memory")
