"""Which pictures are the same: byte for byte, pixel for pixel, or nearly (re-encoded, resized, brightened).

    marks = {path: difference_hash(load_image(path, draft_pixels=100_000)) for path in paths}
    near_groups(marks)          # [("a.jpg", "a_small.jpg"), ...]

Everything here is a pure function; whoever lists pictures decides what to do about their doubles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR = 4
"""Bits of 64 by which near duplicates may differ.

Measured over many pictures: a JPEG of quality 40, half the size or 30 % more light change 0 to 4 bits; other pictures
14 and more, but for 1 pair in 100,000. A crop of 10 % changes 8 to 17, where two of 100,000 pictures are alike by
chance thousands of times over: crops cannot be told from strangers with 64 bits and are not looked for.
"""

FLAT = 1.0
"""Deviation of the differences, in levels of 255, under which a picture has too little in it to be compared."""

_LINKS = 1_000_000  # joined at once: a still camera makes more pairs of near frames than fit in memory


def pixel_hash(image: Image.Image) -> str:
    """Hex BLAKE2b of an RGB picture's size and pixels: the same for copies that differ in tags or lossless format."""
    found = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    found.update(image.tobytes())
    return found.hexdigest()


def difference_hash(image: Image.Image) -> int | None:
    """64 bits, one per cell of an 8 x 8 grid: is its right neighbour brighter? None for a flat picture.

    The difference hash of Krawetz (2013). One colour, or one even slope, has the same bits as any other: such a
    picture has no hash, so that it is never taken for the double of another.
    """
    grey = np.asarray(image.convert("L").resize((72, 64), Image.Resampling.BOX), np.float64)
    cells = grey.reshape(8, 8, 9, 8).mean((1, 3))
    rise = np.diff(cells, axis=1)
    return None if rise.std() < FLAT else int.from_bytes(np.packbits(rise > 0).tobytes(), "big")


def exact_groups(hashes: Mapping[str, Hashable]) -> list[tuple[str, ...]]:
    """Names with the same hash (of bytes or pixels), two or more together, in the order given."""
    groups: dict[Hashable, list[str]] = {}
    for name, found in hashes.items():
        groups.setdefault(found, []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def near_groups(hashes: Mapping[str, int | None], distance: int = NEAR) -> list[tuple[str, ...]]:
    """Names whose difference hashes are at most ``distance`` bits apart, directly or through others of the group.

    None, the hash of a flat picture, belongs to no group. Hashes this near agree in full on one of ``distance`` + 1
    bands of their bits (Manku et al., 2007), so only those that share a band are compared: 100,000 take seconds.
    """
    marked = {name: found for name, found in hashes.items() if found is not None}
    values, place = np.unique(np.array(list(marked.values()), np.uint64), return_inverse=True)
    label = _joined(values, distance)
    return exact_groups(dict(zip(marked, label[place].tolist(), strict=True)))


def _joined(values: np.ndarray, distance: int) -> np.ndarray:
    """A label for each value, the same for all that pairs of near ones connect."""
    label, links, waiting = np.arange(len(values)), [], 0
    for pair in _near_pairs(values, distance):
        links.append(pair[:, label[pair[0]] != label[pair[1]]])
        waiting += links[-1].shape[1]
        if waiting > _LINKS:
            label, links, waiting = _merged(label, links), [], 0
    return _merged(label, links)


def _merged(label: np.ndarray, links: Sequence[np.ndarray]) -> np.ndarray:
    one, other = label[np.concatenate([np.empty((2, 0), np.int64), *links], axis=1)]
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(label), len(label)))
    return connected_components(graph, directed=False)[1][label] if len(label) else label


def _near_pairs(values: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Places of near values, ``[2, pairs]`` at a time; a pair comes once for each band it shares."""
    for band in _bands(values, distance + 1):
        order = np.argsort(band, kind="stable")
        for bucket in np.split(order, 1 + np.flatnonzero(np.diff(band[order]))):
            found = values[bucket]
            for top in range(0, len(bucket) - 1, 128):
                apart = np.bitwise_count(found[top : top + 128, None] ^ found[None, top:])
                one, other = np.nonzero(apart <= distance)
                later = other > one
                yield bucket[top + np.stack([one[later], other[later]])]


def _bands(values: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """``count`` numbers for each value, of different bits of it.

    Bits that are nearly always the same (skies are bright) tell little: they are dealt out evenly, so that no band
    is made of them alone.
    """
    bits = np.unpackbits(values[:, None].view(np.uint8), axis=1)
    telling = np.argsort(abs(bits.mean(0) - 0.5), kind="stable") if len(values) else np.arange(64)
    for number in range(count):
        own = bits[:, telling[number::count]].astype(np.int64)
        yield own @ (1 << np.arange(own.shape[1]))
