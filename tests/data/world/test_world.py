"""The source of samples."""

import itertools

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.data.world import open_picture
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image


def test_the_source_is_found_by_name_and_gives_samples():
    built = resolve("source", "world")(split="test", limit=5, seed=1)
    samples = list(built)
    assert len(built) == len(samples) == 5 == len({sample.id for sample in samples})
    assert samples == list(built)
    for sample in samples:
        assert sample.prompt.question == "Describe the image."
        (media,) = sample.prompt.media
        assert open_picture(media.uri).size == (64, 64)
        assert {"kind", "colour", "row", "col"} <= set(sample.truth["objects"][0])


def test_content_hash_knows_split_seed_and_dials():
    source = resolve("source", "world")
    turns = [{"split": "dev"}, {"split": "test"}, {"seed": 1}, {"dials": {"noise": 8}}]
    hashes = [next(iter(source(limit=1, **turn))).prompt.media[0].content_hash for turn in turns]
    assert all(a != b for a, b in itertools.combinations(hashes, 2))


def test_wrong_settings_are_named():
    with pytest.raises(UserError, match=r"world\.dials\.noise"):
        resolve("source", "world")(dials={"noise": -4})
    with pytest.raises(UserError, match=r"world\.split"):
        resolve("source", "world")(split="exam")


def test_a_picture_opens_through_the_media_room_and_a_wrong_address_is_a_media_error():
    (media,) = next(iter(resolve("source", "world")(limit=1))).prompt.media
    assert load_image(media).tobytes() == open_picture(media.uri).tobytes()
    with pytest.raises(MediaError, match="no picture of the drawn world"):
        open_picture("world:dev/zero/1")
