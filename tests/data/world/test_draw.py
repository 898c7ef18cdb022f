"""Pictures: deterministic, in colour, every kind different."""

import itertools

import numpy as np

from vlm_selfalign.data.world.draw import draw, stencil
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings


def test_same_scene_same_pixels():
    first, second = draw(scene(3, "dev")), draw(scene(3, "dev"))
    assert first.size == (64, 64) and first.mode == "RGB"
    assert first.tobytes() == second.tobytes() != draw(scene(4, "dev")).tobytes()


def test_objects_stay_in_their_cells_and_show_their_colour():
    clean = WorldSettings(noise=0)
    for index in range(20):
        shown = scene(index, settings=clean)
        pixels = np.asarray(draw(shown, clean)).astype(int)
        covered = np.abs(pixels - 128).sum(2) > 0
        for row, col in itertools.product(range(4), range(4)):
            block = covered[row * 16 : row * 16 + 16, col * 16 : col * 16 + 16]
            assert block.any() == any((t.row, t.col) == (row, col) for t in shown.things)
        for thing in shown.things:
            block = pixels[thing.row * 16 : thing.row * 16 + 16, thing.col * 16 : thing.col * 16 + 16].reshape(-1, 3)
            assert (np.abs(block - COLOURS[thing.colour]).max(1) <= 2).sum() >= 10


def test_noise_has_the_size_it_says():
    shown = scene(0)
    grain = np.asarray(draw(shown)).astype(float) - np.asarray(draw(shown, WorldSettings(noise=0)))
    assert 4.5 < grain.std() < 5.5


def test_stencils_differ():
    masks = {kind: np.asarray(stencil(kind)[0]) > 127 for kind in KINDS}
    for first, second in itertools.combinations(KINDS, 2):
        assert (masks[first] != masks[second]).mean() > 0.08, (first, second)
