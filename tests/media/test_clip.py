"""What processors of transformers make of a clip's metadata: the true times, for any rate and segment."""

from __future__ import annotations

import numpy as np
import pytest
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.video_utils import make_batched_metadata

from vlm_selfalign.media.clip import CLOCK, Clip


def clip(times: list[float], duration: float = 30.0, total: int = 280) -> Clip:
    frames = np.zeros((len(times), 4, 6, 3), np.uint8)
    indices = np.arange(len(times)) * 7
    return Clip(frames, np.array(times), indices, total / duration, total, duration, backend="pyav")


STEADY = clip([k / 2 + 0.25 for k in range(60)])
VARIABLE = clip([0.1, 0.2, 0.3333333, 5.0, 17.52, 29.9])
SEGMENT = clip([12.25, 12.75, 13.25, 13.75])


@pytest.mark.parametrize("some", [STEADY, VARIABLE, SEGMENT])
def test_time_stamps_are_the_true_times(some: Clip) -> None:
    assert some.metadata.timestamps == pytest.approx(some.times.tolist(), abs=0.5 / CLOCK)


@pytest.mark.parametrize("some", [STEADY, VARIABLE, SEGMENT])
def test_qwen3_vl_tells_the_model_the_true_times(some: Clip) -> None:
    """It names each pair of frames by the mean of their times."""
    metadata = some.metadata
    told = Qwen3VLProcessor._calculate_timestamps(None, metadata.frames_indices, metadata.fps, 2)  # type: ignore[arg-type]
    assert told == pytest.approx(some.times.reshape(-1, 2).mean(1).tolist(), abs=0.5 / CLOCK)


@pytest.mark.parametrize(("some", "apart"), [(STEADY, 0.5), (SEGMENT, 0.5), (VARIABLE, (29.9 - 0.1) / 5)])
def test_qwen2_5_vl_is_told_how_far_frames_are_apart(some: Clip, apart: float) -> None:
    """It divides the frames of a patch by ``sampled_fps``."""
    assert 2 / some.metadata.sampled_fps == pytest.approx(2 * apart, rel=1e-3)


def test_one_frame_stands_for_the_whole_clip() -> None:
    one = clip([3.0], duration=6.0)
    assert one.metadata.timestamps == [3.0]
    assert one.metadata.sampled_fps == pytest.approx(1 / 6)


def test_batching_keeps_it_as_it_is() -> None:
    """Where processors convert metadata they must find nothing to fill in."""
    metadata = VARIABLE.metadata
    (batched,) = make_batched_metadata([VARIABLE.frames], [metadata])
    assert dict(batched) == dict(metadata)
    assert (metadata.width, metadata.height, metadata.duration, metadata.video_backend) == (6, 4, 30.0, "pyav")


def test_changes_leave_the_original_alone() -> None:
    shorter = STEADY.with_(frames=STEADY.frames[:2], times=STEADY.times[:2], indices=STEADY.indices[:2])
    assert (len(shorter), len(STEADY), shorter.total) == (2, 60, 280)
