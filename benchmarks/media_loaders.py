"""The loaders that ``media.py`` compares, each in a process of its own that answers in lines of JSON."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the maker of bar-coded clips is part of the tests

from tests.media import clips  # noqa: E402

from vlm_selfalign.media import isolation  # noqa: E402
from vlm_selfalign.media.readers import Request, pyav  # noqa: E402
from vlm_selfalign.media.video import load_video  # noqa: E402

THREADS = len(os.sched_getaffinity(0))

Frames = np.ndarray
STATUS = Path("/proc/self/status")
LIMIT = 60.0
"""Seconds after which a loader is taken to hang."""


def ours_isolated(path: str, count: int) -> Frames:
    """As the package loads a clip unless told otherwise: in a child process."""
    return load_video(path, frames=count).frames


def ours_here(path: str, count: int) -> Frames:
    """The same reader in this process."""
    return pyav.read(path, Request(frames=count, threads=THREADS)).frames


def decord(path: str, count: int) -> Frames:
    """Decord with its own defaults, by index."""
    import decord

    reader = decord.VideoReader(path)
    frames = reader.get_batch(middles(len(reader), count)).asnumpy()
    del reader  # or it reads on
    return frames


def torchcodec(path: str, count: int) -> Frames:
    """Torchcodec in exact mode, by index."""
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=THREADS, seek_mode="exact")
    return decoder.get_frames_at(middles(len(decoder), count)).data.numpy()


def transformers(path: str, count: int) -> Frames:
    """Transformers' own loader with its default backend, told the same indices."""
    from transformers.video_utils import load_video

    found: Any = load_video(path, sample_indices_fn=lambda metadata, **_: middles(metadata.total_num_frames, count))
    return found[0]


LOADERS: dict[str, Callable[[str, int], Frames]] = {
    "ours, isolated": ours_isolated,
    "ours, in process": ours_here,
    "decord": decord,
    "torchcodec": torchcodec,
    "transformers": transformers,
}


def middles(total: int, count: int) -> list[int]:
    """Indices in the middle of equal shares, none twice."""
    return sorted({min(total - 1, int((k + 0.5) * total / count)) for k in range(count)})


def serve(name: str) -> None:
    """Answer questions, one JSON line each, until there are none."""
    answers = os.fdopen(os.dup(1), "w")
    for descriptor in (1, 2):  # decoders write what they like
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            found = _measured(LOADERS[name], task)
        except ImportError as error:
            found = {"missing": _line(error)}
        except Exception as error:
            found = {"error": _line(error)}
        print(json.dumps(found), file=answers, flush=True)


def _measured(load: Callable[[str, int], Frames], task: dict[str, Any]) -> dict[str, Any]:
    isolated = load is ours_isolated
    _fresh(isolated, task["warm"])
    before, start = _cpu(isolated), time.perf_counter()
    frames = load(task["path"], task["count"])
    wall, cpu = time.perf_counter() - start, _cpu(isolated) - before
    status = isolation.isolated(Path.read_text, STATUS) if isolated else STATUS.read_text()
    height, width = (size // task["corner"] for size in frames.shape[1:3])
    return {
        **{"wall_s": wall, "cpu_s": cpu, "peak_mb": _peak(status)},
        "numbers": clips.numbers(frame[:height, :width] for frame in np.asarray(frames)),
    }


def _fresh(isolated: bool, warm: str) -> None:
    """Libraries loaded, what earlier loads left given back, the memory's high-water mark at its present level."""
    gc.collect()
    if isolated:
        isolation.close()
        load_video(warm, frames=2)
    ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _cpu(isolated: bool) -> float:
    return time.process_time() + (isolation.isolated(time.process_time) if isolated else 0.0)


def _peak(status: str) -> float:
    """The most memory a process had resident, in MB."""
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().split("\n")[0][:160]


class Loader:
    """A loader in its process, started again after it hung or died."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, **task: Any) -> dict[str, Any]:
        """What came of loading one clip."""
        if self.process is None:
            command = [sys.executable, __file__, self.name]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(task).encode() + b"\n")
        self.process.stdin.flush()
        late = not select.select([self.process.stdout], [], [], task.get("limit", LIMIT))[0]
        line = b"" if late else self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.close()
        return {"error": f"took over {LIMIT:g} s" if late else "died"}

    def close(self) -> None:
        """End its process."""
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None


if __name__ == "__main__":
    serve(sys.argv[1])
