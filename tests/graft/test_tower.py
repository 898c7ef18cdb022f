"""What the tower learns to say, patch by patch."""

import numpy as np
import pytest
import torch

from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.graft import tower
from vlm_selfalign.graft.tower import EMPTY, HARD, RICH, WORDS, Album, Words, patches, pixel_values, reading, word_loss
from vlm_selfalign.models import grafted


@pytest.fixture(scope="module")
def album():
    return Album.drawn("dev", 8)


@pytest.fixture
def words():
    generator = torch.Generator().manual_seed(0)
    return Words(torch.randn(len(WORDS), 16, generator=generator), torch.randn(len(HARD), 16, generator=generator))


def test_each_object_says_where_it_is_and_what(album):
    for index, one in enumerate(album.scenes):
        word_P, hard_PH = patches(one, tower.PLAIN if index % 4 == 0 else RICH)
        said = np.array(WORDS)[word_P.numpy()].reshape(8, 8)
        cells = {(t.row, t.col): t for t in one.things}
        for (row, col), thing in cells.items():
            block = said[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
            assert block.tolist() == [[tower.ROWS[row], tower.COLUMNS[col]], [thing.colour, thing.kind]]
        assert (said != EMPTY).sum() == 4 * len(cells)
        assert hard_PH[word_P == 0].sum() == 0


def test_the_loss_is_least_where_every_word_is_said(album, words):
    goal = words.known_WD[album.word_NP] + tower.HARD_SHARE * album.hard_NPH @ words.hard_HD
    best = word_loss(goal, album.word_NP, album.hard_NPH, words)
    for change in (0.9 * goal, goal + 0.5, goal.roll(1, 1)):
        assert word_loss(change, album.word_NP, album.hard_NPH, words) > best
    assert set(reading(words.known_WD[album.word_NP], album.word_NP, words).values()) == {1.0}


def test_pixels_are_what_the_processor_makes(album, smollm2_folder):
    made = grafted.processor(smollm2_folder)
    from PIL import Image

    batch = made.image_processor(images=[[Image.fromarray(album.pixels_NHW3[0])]], return_tensors="pt")
    torch.testing.assert_close(pixel_values(album.pixels_NHW3[:1]), batch["pixel_values"][0], atol=1e-6, rtol=0)


def test_every_word_is_one_token(smollm2_folder):
    made = grafted.tokenizer(smollm2_folder)
    for word in (*WORDS[1:], *HARD.values()):
        assert len(made.encode(" " + word)) == 1


def test_the_truth_fits_the_picture(album):
    assert album.scenes[1] == scene(1, "dev", 0, RICH)
    assert album.pixels_NHW3.shape == (8, 64, 64, 3)
