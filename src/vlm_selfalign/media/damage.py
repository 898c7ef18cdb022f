"""What a decoder says under its breath: garbage is normal in damaged clips, exceptions are not.

FFmpeg conceals what it cannot decode. It can be noticed all the same: frames flagged as corrupt, error lines in its
log, frames that never come. None of these rises on an undamaged clip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import av.logging as ffmpeg

PACKETS = "damaged packets"
FRAMES = "damaged frames"
MESSAGES = "errors reported while decoding"
HEADERS = "errors reported while reading the file"
ERRORS = "packets that cannot be decoded"
CUT = "the file ends early"
REPLACED = "frames that cannot be decoded, neighbours shown instead"
UNTIMED = "frames without a known time"
MISSING = "frames that cannot be decoded, none shown"

# H.264 with open GOPs says this of whole files: a picture to be forgotten that was never needed.
_HARMLESS = ("mmco: unref short failure",)

Line = tuple[int, str, str]


class Damage:
    """Counts the signs of damage over one stretch of reading."""

    def __init__(self, log: list[Line], lines_mean: str) -> None:
        log.clear()
        self._log, self._lines_mean = log, lines_mean
        self._signs: Counter[str] = Counter()
        self.words = ""

    def note(self, sign: str, words: object = "") -> None:
        """One more sign; the first words heard are kept for the message."""
        self._signs[sign] += 1
        self.words = self.words or str(words).strip().split("\n")[0][:200]

    def signs(self) -> Counter[str]:
        """All signs so far, error lines included."""
        errors = [line for line in self._log if line[0] <= ffmpeg.ERROR and not line[2].startswith(_HARMLESS)]
        for _, name, text in errors:
            self.note(self._lines_mean, f"{name}: {text}")
        self._log.clear()
        return self._signs


_lock = Lock()
_listeners = 0
_before = (ffmpeg.get_level(), ffmpeg.get_skip_repeated())


@contextmanager
def listening(threads: int) -> Iterator[list[Line]]:
    """Collect FFmpeg's log: this thread's, or for a decoder with threads of its own that of the whole process."""
    _listen(1)
    try:
        with ffmpeg.Capture(local=threads == 1) as log:
            yield log
    finally:
        _listen(-1)


def _listen(more: int) -> None:
    """The first listener turns FFmpeg's log on, the last one puts it back."""
    global _listeners, _before
    with _lock:
        _listeners += more
        if more > 0 and _listeners == 1:
            _before = (ffmpeg.get_level(), ffmpeg.get_skip_repeated())
            ffmpeg.set_level(max(ffmpeg.ERROR, _before[0] or 0))
            ffmpeg.set_skip_repeated(False)  # or the second of two clips with the same fault would seem sound
        elif _listeners == 0:
            ffmpeg.set_level(_before[0])
            ffmpeg.set_skip_repeated(_before[1])
