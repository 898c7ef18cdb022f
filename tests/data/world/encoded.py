"""Writes drawn clips as files, so that tests can go the way that real clips go."""

from fractions import Fraction
from pathlib import Path

import av

from vlm_selfalign.media.clip import Clip


def write_mp4(clip: Clip, path: Path, quality: int = 12) -> Path:
    """H.264 in mp4; every frame at its own time. ``quality``: x264's crf, 0 is lossless."""
    with av.open(str(path), "w") as file:
        rate = Fraction(clip.fps).limit_denominator(1000)
        stream = file.add_stream("libx264", rate=rate, options={"crf": str(quality)})
        stream.height, stream.width = clip.frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in clip.frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path
