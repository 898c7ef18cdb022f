"""The few ways a run can fail, and whose fault each one is.

=================  ==================================================================  =========
class              means                                                               exit code
=================  ==================================================================  =========
``UserError``      something the user gave is wrong; the message says what to do        2
``TryAgain``       nothing is wrong, but it cannot go on now (disk full, endpoint away)  75
``Interrupted``    a signal stopped the run after the batch in flight                   130/143
``Drop``           one sample is given up, with its reason; the run goes on             (none)
``RequestFailed``  one request got no answer; drops its sample unless the method copes  (none)
=================  ==================================================================  =========

Everything else that escapes is a bug of ours: exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What the user gave cannot be used; one line that says what is wrong and what to do."""


class TryAgain(RuntimeError):
    """The run cannot go on now but lost nothing: the same command continues it."""


class Interrupted(BaseException):
    """A signal asked the run to stop; everything finished so far is on disk.

    Like ``KeyboardInterrupt`` it is no ``Exception``: it may be raised anywhere, also inside libraries that catch
    those and go on.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}; the same command continues")
        self.exit_code = 128 + signal_number


class Drop(Exception):
    """Raised inside a method to give up its sample; ``reason`` is counted and shown."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RequestFailed(Drop):
    """A service could not answer a request (see ``requests.Failed``)."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, or the list of known names, or ``""``."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
