"""Small clips in folders laid out as the benchmarks are published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture(scope="session")
def one_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 32
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number * 60, np.uint8))
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path.read_bytes()


@pytest.fixture
def put(one_clip: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Writes clips of different content; what is known of files is kept nowhere."""
    monkeypatch.setenv("VLM_SELFALIGN_CACHE", "")

    def write(folder: Path, *names: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            # Bytes after the last box are no part of the clip, and make it another file.
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(one_clip + b"\0\0\0\x10free" + name.encode()[-8:].rjust(8))

    return write
