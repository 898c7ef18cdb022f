"""Stopping well: the batch in flight is finished and kept, everything else stops where it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vlm_selfalign.core.errors import Interrupted


class Stop:
    """Turns SIGINT and SIGTERM into ``Interrupted``; a second signal exits at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._in_batches = False

    def install(self) -> Stop:
        """Listen to the signals of this process; those that came before are forgotten."""
        self.signal = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._received)
        return self

    @contextmanager
    def in_batches(self) -> Iterator[None]:
        """Inside, a signal waits for ``between``: the batch in flight is paid for, so it is kept."""
        self._in_batches = True
        try:
            yield
        finally:
            self._in_batches = False

    def between(self) -> None:
        """Raise ``Interrupted`` if a signal came."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        if not self._in_batches:
            raise Interrupted(number)
