import math
import os
import struct

from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.lines import decode, encode, from_json, line_at, lines, to_json
from vlm_selfalign.core.requests import Text

TEXTS = st.text(st.characters(codec=None, categories=None))  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def bits(value):
    """The value with floats as their bits, so that NaN and -0.0 compare."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list) else value


@given(JSON, st.binary(min_size=16, max_size=16), st.booleans())
def test_what_is_written_comes_back(payload, key, starts):
    line = encode(key, to_json(payload), starts)
    assert line.count(b"\n") == 1
    found = decode(line)
    assert found and (found.key, found.starts) == (key, starts)
    assert bits(found.payload) == bits(payload)


@given(JSON, st.data())
def test_every_flipped_bit_is_noticed(payload, data):
    line = bytearray(encode(bytes(16), to_json(payload), True))
    place = data.draw(st.integers(0, len(line) * 8 - 1))
    line[place // 8] ^= 1 << place % 8
    assert decode(bytes(line)) is None


@given(st.binary(max_size=60))
def test_garbage_is_no_line(garbage):
    assert decode(garbage) is None


def test_records_inside_a_record_keep_their_infinities():
    reply = Text(text="a", logprobs=(-math.inf,))
    assert from_json(to_json({"rows": [reply]}))["rows"][0]["logprobs"] == [-math.inf]


def test_lines_and_line_at_agree_whatever_the_chunk(tmp_path):
    text = b"".join(bytes([65 + i]) * (i * 7) + b"\n" for i in range(20)) + b"cut short"
    (tmp_path / "f").write_bytes(text)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    for chunk in (1, 5, 64, 4096):
        found = list(lines(fd, len(text), chunk))
        assert b"".join(line for _, line in found) == text
        assert [line_at(fd, offset, chunk) for offset, _ in found] == [line for _, line in found]
    assert list(lines(fd, 1)) == [(0, b"\n")]
    os.close(fd)
