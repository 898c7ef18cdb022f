"""Tiny checkpoints built once per session, and a few pictures and clips on disk."""

from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.media import Media
from vlm_selfalign.media.image import image_media
from vlm_selfalign.media.video import video_media
from vlm_selfalign.models.load import Loaded, load
from vlm_selfalign.models.tiny import build

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """The folder of a family's tiny checkpoint; tests must not change it."""
    return cache(lambda family: build(family, tmp_path_factory.mktemp("tiny") / family))


@pytest.fixture(scope="session")
def loaded(folder_of):
    """A family's tiny model, loaded once: tests must leave it as they found it."""

    def of(family: str) -> Loaded:
        return load(ModelSettings(path=str(folder_of(family)), device="cpu"))

    return cache(of)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Media]:
    """Eight noisy pictures of different shapes."""
    folder = tmp_path_factory.mktemp("photos")
    chance = np.random.default_rng(0)
    found = []
    for i, (w, h) in enumerate([(48, 48), (64, 40), (33, 57), (80, 30), (48, 48), (20, 20), (64, 64), (50, 70)]):
        path = folder / f"{i}.png"
        Image.fromarray(chance.integers(0, 255, (h, w, 3), dtype=np.uint8)).save(path)
        found.append(image_media(str(path)))
    return found


UNEVEN = (0.0, 0.1, 0.2, 0.5, 3.0, 3.5, 7.25, 8.0, 64.0, 70.0)
"""Seconds at which the frames of the first clip are shown; the last one for six more."""


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> list[Media]:
    """Three clips of noise: one of a variable rate over 76 s, one of 12 frames in 3 s, one of a single frame."""
    folder = tmp_path_factory.mktemp("clips")
    even = tuple(k / 4 for k in range(12))
    return [
        video_media(str(write_clip(folder / f"{name}.mp4", times, size, seed)))
        for seed, (name, times, size) in enumerate(
            [("uneven", (*UNEVEN, 76.0), (64, 48)), ("even", (*even, 3.0), (48, 64)), ("single", (0.0, 1.0), (48, 48))]
        )
    ]


def write_clip(path: Path, times: tuple[float, ...], size: tuple[int, int], seed: int = 0) -> Path:
    """Blocks of noise in H.264, a frame at each time but the last, which ends the one before."""
    chance = np.random.default_rng(seed)
    ticks = [round(time * 1000) for time in times]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for tick, after in pairwise(ticks):
            blocks = chance.integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(blocks.repeat(8, 0).repeat(8, 1), format="rgb24")
            frame.pts, frame.duration = tick, after - tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
