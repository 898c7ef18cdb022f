"""A drawn clip survives the way that real clips go: encoded, read by any decoder, opened by the media room."""

import runpy
from pathlib import Path

import av
import numpy as np
import pytest

from vlm_selfalign.data.world.clips.draw import draw_story
from vlm_selfalign.data.world.clips.stories import story

write_mp4 = runpy.run_path(str(Path(__file__).with_name("encoded.py")))["write_mp4"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    drawn = draw_story(story(3))
    return drawn, write_mp4(drawn, tmp_path_factory.mktemp("clips") / "drawn.mp4")


def test_the_file_is_h264_with_every_frame_at_its_time(pair):
    drawn, path = pair
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        frames = list(file.decode(stream))
    assert [float(frame.time) for frame in frames] == pytest.approx(drawn.times.tolist())
    read = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(int)
    assert read.shape == drawn.frames.shape
    # Colours are stored at half resolution, so that edges bleed; what is flat stays as it was.
    assert np.abs(read - drawn.frames).mean() < 6
    assert np.corrcoef(read.mean(3).ravel(), drawn.frames.mean(3).ravel())[0, 1] > 0.97


def test_the_media_room_reads_it_as_the_drawn_one(pair):
    video = pytest.importorskip("vlm_selfalign.media.video")
    drawn, path = pair
    read = video.load_video(str(path), frames=16)
    assert read.times.tolist() == pytest.approx(drawn.times.tolist())
    assert np.abs(read.frames.astype(int) - drawn.frames).mean() < 6
