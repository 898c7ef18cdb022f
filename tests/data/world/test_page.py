"""The page of samples: one file, complete, and only for what exists."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.clips.draw import draw_story
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.descriptions import describe
from vlm_selfalign.data.world.page import world_page
from vlm_selfalign.data.world.plates import sheet, strip
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import WorldSettings


def test_the_page_stands_alone_and_shows_everything(tmp_path):
    rich = WorldSettings.of(base="rich")
    path = world_page(rich, tmp_path / "page", scenes=4, stories=2)
    text = path.read_text()
    assert (
        path == tmp_path / "page" / "world.html" and text == world_page(rich, tmp_path, scenes=4, stories=2).read_text()
    )
    assert text.count("data:image/png;base64,") == 6
    assert not re.search(r"(src|href)=\"(?!data:)", text) and "http" not in text
    told = describe(scene(0, settings=rich), rng("page", "train", 0, 0), rich)
    assert all(sentence.text in text for sentence in told.sentences)
    assert "Did not happen" in text or 'class="false"' in text
    assert "What is" not in text and " * " in text
    HTMLParser().feed(text)


def test_a_wrong_split_is_named(tmp_path):
    with pytest.raises(UserError, match="no split 'exam'"):
        world_page(None, tmp_path, split="exam", scenes=1, stories=0)


def test_plates_hold_every_picture_once():
    pictures = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (50, 100, 150)]
    plate = np.asarray(sheet(pictures, columns=2, scale=3))
    assert plate.shape == (24 + 4 + 24, 24 + 4 + 24, 3)
    assert [plate[0, 0, 0], plate[0, 51, 0], plate[51, 0, 0]] == [50, 100, 150] and plate[51, 51].tolist() == [255] * 3
    drawn = draw_story(story(0))
    film = np.asarray(strip(drawn, frames=4, scale=1))
    assert film.shape == (64, 4 * 68 - 4, 3)
    assert (film[:, :64] == drawn.frames[0]).all() and (film[:, -64:] == drawn.frames[-1]).all()
