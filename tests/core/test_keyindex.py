import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.keyindex import HEADER, KeyIndex

# Few upper halves, so that keys share them.
KEYS = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 3)).map(
    lambda pair: pair[0].to_bytes(8) + pair[1].to_bytes(8)
)


@given(st.lists(KEYS), st.integers(0, 10))
def test_finds_what_a_dict_finds(keys, split):
    parts = [
        KeyIndex.of(b"".join(keys[:split]), range(len(keys[:split]))),
        KeyIndex.of(b"".join(keys[split:]), range(len(keys[split:]))).shifted(len(keys[:split])),
    ]
    index = KeyIndex.joined(parts)
    assert len(index) == len(keys)
    for key in {*keys, bytes(16), b"\xff" * 16}:
        assert index.find(key) == [place for place, known in enumerate(keys) if known == key]


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "i"
    index = KeyIndex.of(random.Random(0).randbytes(1600), range(100))
    index.save(path, 12345)
    loaded = KeyIndex.load(path)
    assert loaded and loaded[1] == 12345
    assert np.array_equal(loaded[0].upper, index.upper) and np.array_equal(loaded[0].place, index.place)
    assert path.stat().st_size == HEADER + 24 * 100
    assert KeyIndex.load(tmp_path / "none") is None


def test_every_damage_to_a_saved_index_is_noticed(tmp_path):
    path, rng = tmp_path / "i", random.Random(0)
    KeyIndex.of(rng.randbytes(160), range(10)).save(path, 7)
    whole = path.read_bytes()
    for place in range(0, len(whole) * 8, 7):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert KeyIndex.load(path) is None
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert KeyIndex.load(path) is None
