"""Chance that belongs to things."""

import itertools
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.seeds import digest, digest_bytes, rng, seed_of

parts = st.lists(st.integers() | st.text() | st.floats(allow_nan=False) | st.none() | st.booleans(), max_size=4)


@given(parts, parts)
def test_digests_differ_as_the_written_parts_do(one, other):
    assert (digest(*one) == digest(*other)) == (repr(one) == repr(other))


def test_digests_are_the_same_in_another_process():
    code = "from vlm_selfalign.core.seeds import *; print(digest('ä', 1, None), seed_of('x', 2.5), rng(3).random())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env={"PYTHONHASHSEED": "77", "PYTHONIOENCODING": "utf-8"}).stdout.split()  # fmt: skip
    assert found == [digest("ä", 1, None), str(seed_of("x", 2.5)), str(rng(3).random())]


def test_known_values_never_change():
    """Runs on disk are found again by these."""
    assert digest("policy", 1, None) == "a7883b2e429c25ef7e46462c22286482"
    assert seed_of(0, 0) == 2700352082440137613


def test_sizes():
    assert len(digest("a")) == 32 and len(digest("a", size=8)) == 16 and len(digest_bytes(b"a")) == 32


@given(parts)
def test_seeds_are_63_bits(some):
    assert 0 <= seed_of(*some) < 2**63


def test_lone_surrogates_can_be_hashed():
    assert digest("\ud800") != digest("\ud801")


def test_neighbouring_seeds_are_unrelated():
    draws = [rng("sample", i).random() for i in range(4000)]
    mean = sum(draws) / len(draws)
    follow = sum((a - mean) * (b - mean) for a, b in itertools.pairwise(draws)) / len(draws)
    assert abs(mean - 0.5) < 0.02 and abs(follow) < 0.006
