"""The same frames wherever a clip is loaded: workers by fork and spawn, threads; and nothing piles up."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vlm_selfalign.media import isolation
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.isolation import isolated
from vlm_selfalign.media.video import load_video

from .clips import ORDINARY, made, numbers

H264, HEVC, VP9 = ORDINARY[0], ORDINARY[5], ORDINARY[7]
MARK = f"VLM_SELFALIGN_TEST_OF={os.getpid()}".encode()
RECIPES = (H264, HEVC, VP9, ORDINARY[3])

DATA_SET = """
    import hashlib
    from vlm_selfalign.media.video import load_video

    class Clips:
        def __init__(self, paths, isolate):
            self.paths, self.isolate = paths, isolate

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            clip = load_video(self.paths[index], frames=8, isolate=self.isolate)
            all = clip.frames.tobytes(), clip.indices.tobytes(), clip.times.tobytes()
            return hashlib.blake2b(b"".join(all)).hexdigest()
"""


@pytest.fixture(scope="module")
def clips_class(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A data set that a worker started from nothing can import; our children are known by a mark."""
    name, value = MARK.decode().split("=")
    os.environ[name] = value
    folder = tmp_path_factory.mktemp("importable")
    (folder / "clips_for_loaders.py").write_text(textwrap.dedent(DATA_SET))
    sys.path.insert(0, str(folder))
    isolation.close()
    from clips_for_loaders import Clips  # pyright: ignore[reportMissingImports]

    yield Clips
    sys.path.remove(str(folder))
    del sys.modules["clips_for_loaders"], os.environ[name]


@pytest.fixture(scope="module")
def paths() -> list[str]:
    return [str(made(recipe)) for recipe in RECIPES] * 3


@pytest.fixture(scope="module")
def alone(clips_class: Any, paths: list[str]) -> list[str]:
    """What each clip gives when it is loaded here, by nobody else; it was looked at to be right."""
    for recipe in RECIPES:
        assert numbers(load_video(made(recipe), frames=8, isolate=False).frames) == recipe.wanted(8)
    found = clips_class(paths, isolate=False)
    return [found[k] for k in range(len(paths))]


SLOW = pytest.mark.slow  # every worker started from nothing imports torch


@pytest.mark.parametrize(
    ("workers", "start", "isolate"),
    [
        *[(0, None, True), (0, None, False), (2, "fork", True), (2, "fork", False), (4, "fork", True)],
        *[(4, "fork", False), (2, "spawn", True)],
        *[pytest.param(2, "spawn", False, marks=SLOW), pytest.param(4, "spawn", True, marks=SLOW)],
        pytest.param(4, "spawn", False, marks=SLOW),
    ],
)
def test_data_loader_workers(
    workers: int, start: str | None, isolate: bool, clips_class: Any, paths: list[str], alone: list[str]
) -> None:
    from torch.utils.data import DataLoader

    load_video(paths[0], frames=4)  # the libraries and a child are in use when the workers start
    ours = _servers()
    loader = DataLoader(
        clips_class(paths, isolate), batch_size=None, num_workers=workers, multiprocessing_context=start
    )
    assert list(loader) == alone
    deadline = time.monotonic() + 5
    while _servers() - ours:
        assert time.monotonic() < deadline, "a worker left a child"
        time.sleep(0.05)


@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "here"])
def test_four_threads(isolate: bool, clips_class: Any, paths: list[str], alone: list[str]) -> None:
    found = clips_class(paths, isolate)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(found.__getitem__, range(len(paths)))) == alone


@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "here"])
def test_two_hundred_clips_leave_nothing_open(isolate: bool, tmp_path: Path) -> None:
    path, broken = made(H264), tmp_path / "broken.mp4"
    broken.write_bytes(made(H264).read_bytes()[:3000])
    load_video(path, frames=4, isolate=isolate)
    files, threads, child = _open_files(), len(os.listdir("/proc/self/task")), _child_files() if isolate else 0
    shm = set(os.listdir("/dev/shm"))
    for k in range(200):
        if k % 10:
            load_video(path, frames=2, isolate=isolate)
        else:
            with pytest.raises(MediaError):
                load_video(broken, frames=2, isolate=isolate)
    assert (_open_files(), len(os.listdir("/proc/self/task"))) == (files, threads)
    assert not isolate or _child_files() == child
    assert set(os.listdir("/dev/shm")) == shm


def test_a_child_that_decodes_knows_no_model_library() -> None:
    isolation.close()
    load_video(made(H264), frames=4)
    loaded = set(isolated(eval, "list(__import__('sys').modules)"))
    assert "av" in loaded and not loaded & {"torch", "transformers", "decord"}


def test_frames_that_are_kept_stay_as_they_are() -> None:
    path = made(H264)
    held = [load_video(path, frames=4) for _ in range(20)]
    first = hashlib.blake2b(held[0].frames.tobytes()).digest()
    isolation.close()
    assert {hashlib.blake2b(clip.frames.tobytes()).digest() for clip in held} == {first}


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _child_files() -> int:
    return len(isolated(os.listdir, "/proc/self/fd"))


def _servers() -> set[str]:
    """Every process that serves isolated calls to us or to our workers."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if b"media.child" in (entry / "cmdline").read_bytes() and MARK in (entry / "environ").read_bytes():
                found.add(entry.name)
    return found
