"""Damages the bytes of a clip in the ways files are damaged: cut short, bits flipped, blocks lost or overwritten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Damage = Callable[[bytearray, np.random.Generator], None]


def damaged(data: bytes, seed: int) -> tuple[bytes, str]:
    """The bytes with one kind of damage, drawn by the seed, and its name."""
    chance = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    changed = bytearray(data)
    kind(changed, chance)
    return bytes(changed), kind.__name__


def _place(data: bytearray, chance: np.random.Generator, low: float = 0.0) -> int:
    return int(chance.integers(int(low * len(data)), len(data)))


def cut_short(data: bytearray, chance: np.random.Generator) -> None:
    """Only the beginning is there."""
    del data[_place(data, chance, 0.02) :]


def beheaded(data: bytearray, chance: np.random.Generator) -> None:
    """The first bytes are missing."""
    del data[: int(chance.integers(1, 4096))]


def few_flips(data: bytearray, chance: np.random.Generator) -> None:
    """One to ten bits flipped."""
    for _ in range(int(chance.integers(1, 11))):
        data[_place(data, chance)] ^= 1 << int(chance.integers(8))


def many_flips(data: bytearray, chance: np.random.Generator) -> None:
    """A bit in every few hundred bytes flipped."""
    for _ in range(len(data) // int(chance.integers(100, 1000)) + 1):
        data[_place(data, chance)] ^= 1 << int(chance.integers(8))


def zeros(data: bytearray, chance: np.random.Generator) -> None:
    """A block that was never written."""
    start, length = _place(data, chance), int(chance.integers(64, 4096))
    data[start : start + length] = bytes(len(data[start : start + length]))


def noise(data: bytearray, chance: np.random.Generator) -> None:
    """A block overwritten with something else."""
    start, length = _place(data, chance), int(chance.integers(64, 4096))
    data[start : start + length] = chance.bytes(len(data[start : start + length]))


def hole(data: bytearray, chance: np.random.Generator) -> None:
    """A block missing from the middle."""
    start = _place(data, chance, 0.1)
    del data[start : start + int(chance.integers(16, 4096))]


def swapped(data: bytearray, chance: np.random.Generator) -> None:
    """Two blocks in each other's place."""
    length = min(2048, len(data) // 4)
    first, second = sorted(int(place) for place in chance.integers(0, len(data) - length, 2))
    if second - first >= length:
        a, b = data[first : first + length], data[second : second + length]
        data[first : first + length], data[second : second + length] = b, a


def header_hit(data: bytearray, chance: np.random.Generator) -> None:
    """A few bytes of the header are wrong."""
    for _ in range(int(chance.integers(1, 6))):
        data[int(chance.integers(min(len(data), 1024)))] = int(chance.integers(256))


def zero_tail(data: bytearray, chance: np.random.Generator) -> None:
    """The right length, but the end was never written: a download that stopped."""
    start = _place(data, chance, 0.1)
    data[start:] = bytes(len(data) - start)


KINDS: tuple[Damage, ...] = (
    cut_short,
    few_flips,
    many_flips,
    zeros,
    noise,
    hole,
    swapped,
    header_hit,
    beheaded,
    zero_tail,
)
