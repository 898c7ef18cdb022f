"""Chance that belongs to things, not to moments: every random choice is a hash of what it decides.

A sample draws the same numbers whichever batch, window, order or resumed run it is part of.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

MASK64 = (1 << 64) - 1


def digest(*parts: object, size: int = 16) -> str:
    """Hex BLAKE2b of the parts' ``repr``, ``size`` bytes long."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()


def digest_bytes(data: bytes, size: int = 16) -> str:
    """Hex BLAKE2b of raw bytes: the identity of a file's content."""
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def digest_file(path: str | Path, size: int = 16) -> str:
    """The same of a file, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=size)).hexdigest()


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on every part and on nothing else."""
    return int(digest(*parts, size=8), 16) & (MASK64 >> 1)


def rng(*parts: object) -> random.Random:
    """A fresh ``random.Random`` seeded by the parts."""
    return random.Random(seed_of(*parts))
