"""Pictures and clips are opened once, kept within bounds, and never larger than allowed."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.config import MediaSettings
from vlm_selfalign.core.media import Media
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.models.shown import FEWEST_FRAMES, Kept, at_most, less, load_shown, thinned


def picture(side=10):
    return Image.new("RGB", (side, side))


def a_clip(frames=12, height=40, width=30):
    return Clip(
        np.zeros((frames, height, width, 3), np.uint8), np.arange(frames) * 0.5, np.arange(frames), 2.0, frames, 6.0
    )


def test_the_longest_unused_leaves_first_and_size_counts_bytes():
    kept, made = Kept(900), []

    def get(key, side=10):
        kept.get(key, lambda: made.append(key) or picture(side))

    for key in "abcadab":  # three pictures of 300 bytes fit; "b" was unused longest when "d" came
        get(key)
    assert made == ["a", "b", "c", "d", "b"] and kept.size == 900
    get("huge", side=100)
    get("huge", side=100)
    assert made[-2:] == ["huge", "huge"] and kept.size == 0, "what does not fit is shown all the same"


def test_threads_that_want_the_same_wait_for_one_of_them():
    kept, made, got = Kept(10_000), [], []

    def slow():
        made.append(1)
        time.sleep(0.05)
        return picture()

    threads = [threading.Thread(target=lambda: got.append(kept.get("x", slow))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(got) == 8 and len({id(one) for one in got}) == 1


@pytest.mark.parametrize(("stage", "tries"), [("decode", 1), ("open", 2)])
def test_a_broken_file_is_tried_once_but_a_missing_one_again(stage, tries):
    kept, made = Kept(10_000), []

    def broken():
        made.append(1)
        raise MediaError("x.mp4", "a cut file", stage)

    for _ in range(2):
        with pytest.raises(MediaError, match="a cut file"):
            kept.get("x", broken)
    assert len(made) == tries


def test_views_segments_and_settings_are_shown_apart_but_paths_are_not(photos):
    kept = Kept(0)
    first = load_shown(photos[0], MediaSettings(), kept)
    assert load_shown(photos[0].model_copy(update={"uri": "/moved.png"}), MediaSettings(cache_mb=600), kept) is first
    assert load_shown(photos[0].viewed("grey"), MediaSettings(), kept) is not first
    assert load_shown(photos[0], MediaSettings(max_pixels=100), kept).size == (10, 10)
    assert kept.limit == 600 << 20
    named = Media(kind="image", uri=photos[0].uri, content_hash="x")
    other = Media(kind="image", uri=photos[1].uri, content_hash="x")
    shown = [load_shown(one, MediaSettings(), kept) for one in (named, other)]
    assert shown[0].size != shown[1].size, "a made-up hash proves nothing"


def test_smaller_keeps_the_shape_and_fewer_keeps_the_times():
    small = at_most(a_clip(), 300)
    assert small.frames.shape == (12, 20, 15, 3) and at_most(small, 300) is small
    assert at_most(picture(40), 100).size == (10, 10)
    few = thinned(a_clip(), 3)
    assert few.indices.tolist() == [2, 6, 10] and few.times.tolist() == [1.0, 3.0, 5.0]
    both = less([a_clip(), picture(60), a_clip(3)], 0.5)
    assert [len(both[0]), both[1].size, len(both[2])] == [6, (60, 60), 3]
    assert len(less([a_clip()], 0.99)[0]) == 11 and len(less([a_clip()], 0.01)[0]) == FEWEST_FRAMES
    smaller = less([a_clip(4, 80, 80), picture(100)], 0.25)
    assert smaller[0].frames.shape == (4, 40, 40, 3) and smaller[1].size == (50, 50)
