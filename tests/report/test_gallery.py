"""Spans are coloured where the answers differ, ends are shown, pictures that cannot be opened say why."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Episode, Group, Labelled, Origin, Pair, Turn
from vlm_selfalign.data.world import picture
from vlm_selfalign.data.world.clips import clip
from vlm_selfalign.media.image import image_media
from vlm_selfalign.report.folder import RunFolder
from vlm_selfalign.report.gallery import Card, Piece, caption_pieces, card, cards, pieces, write_preview
from vlm_selfalign.report.pictures import Picture, Pictures

from . import made

PROMPT = Prompt.user("Describe.")


def looks(found: Card, look: str) -> list[list[str]]:
    return [[piece.text for piece in side.pieces if piece.look == look] for side in found.sides]


def shown(**row: object) -> Card:
    return card(Pair(prompt=PROMPT, **row), Pictures())  # type: ignore[arg-type]


def test_spans_of_the_row_win() -> None:
    found = shown(chosen="A cat sits.", rejected="A dog sits.", chosen_spans=((0, 5),), rejected_spans=((0, 5),))
    assert looks(found, "chosen")[0] == ["A cat"] and looks(found, "rejected")[1] == ["A dog"]


def test_without_spans_the_differing_words_are_found() -> None:
    found = shown(chosen="A red cat sits here.", rejected="A blue cat lies here.")
    assert looks(found, "chosen")[0] == ["red", "sits"] and looks(found, "rejected")[1] == ["blue", "lies"]


def test_opening_is_grey_before_both_sides() -> None:
    row = Pair(prompt=PROMPT.opened("There is a cat."), chosen=" It sits.", rejected="", chosen_ends=False)
    found = card(row, Pictures())
    assert [side.pieces[0] for side in found.sides] == [Piece("There is a cat.", "opening")] * 2
    assert found.sides[1].pieces[-1] == Piece("¶ stops here", "end rejected")
    assert found.sides[0].pieces[-1] == Piece("It sits.", "chosen")


@pytest.mark.parametrize(("chosen_ends", "rejected_ends", "ends"), [
    (True, True, ("end", "end")), (True, False, ("end chosen", "")), (False, True, ("", "end rejected")),
    (False, False, ("", "")),
])  # fmt: skip
def test_an_end_is_coloured_where_only_one_side_has_it(
    chosen_ends: bool, rejected_ends: bool, ends: tuple[str, str]
) -> None:
    found = shown(chosen="same", rejected="same", chosen_ends=chosen_ends, rejected_ends=rejected_ends)
    assert tuple(next((p.look for p in side.pieces if "¶" in p.text), "") for side in found.sides) == ends


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6))
def test_pieces_lose_no_character_and_mark_just_the_spans(text: str, spans: list[tuple[int, int]]) -> None:
    found = pieces(text, spans, "x")
    assert "".join(piece.text for piece in found) == text
    marked = [piece.look == "x" for piece in found for _ in piece.text]
    assert marked == [any(start <= place < end for start, end in spans) for place in range(len(text))]


def test_captions_mark_what_is_false() -> None:
    assert caption_pieces({"text": "A cat and a dog.", "false": [[12, 15]]})[1] == Piece("dog", "false")
    assert caption_pieces("plain") == (Piece("plain"),)
    assert caption_pieces("")[0].text == "(empty)"


def test_all_kinds_of_rows() -> None:
    origin, pictures = Origin(sample="s", stage="x"), Pictures()
    group = card(Group(origin=origin, prompt=PROMPT, completions=("a", "b"), scores=(0.5, 1)), pictures)
    assert [side.title for side in group.sides] == ["score 0.5", "score 1"]
    judged = card(Labelled(origin=origin, prompt=PROMPT, answer="a", label=0, judgment="wrong"), pictures)
    assert [side.title for side in judged.sides] == ["label 0", "judgment"]
    turns = (Turn(prompt=PROMPT, answer="a"), Turn(prompt=PROMPT.answered("a").then("Sure?"), answer="b"))
    episode = card(Episode(origin=origin, turns=turns, rewards=(0, 1)), pictures)
    assert [side.title for side in episode.sides] == ["turn 1, reward 0", "turn 2, reward 1"]


def test_several_turns_are_all_shown() -> None:
    found = card(Pair(prompt=PROMPT.answered("A cat.").then("Sure?"), chosen="Yes.", rejected="No."), Pictures())
    assert found.question == "user: Describe.\nassistant: A cat.\nuser: Sure?"


def test_pictures_are_small_views_applied_and_missing_ones_explained(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.full((900, 600, 3), 200, np.uint8)).save(path)
    media, pictures = image_media(str(path)), Pictures()
    large, grey = pictures(media), pictures(media.viewed("noise", 0.6))
    assert large.address.startswith("data:image/jpeg;base64,") and len(large.address) < 20_000
    assert grey.views == "noise 0.6" and grey.address != large.address
    assert pictures(picture(0)).small and not large.small
    path.unlink()
    assert Pictures()(media).missing == "no such file"
    gone = Media(kind="video", uri="x.mp4", content_hash="0")
    assert pictures(gone).missing == "no such file" and not pictures(gone).address
    assert "no view called 'glow'" in pictures(picture(0).viewed("glow")).missing


def test_a_clip_is_a_strip_of_frames_with_their_times() -> None:
    shown, pictures = clip(3), Pictures(frames=4)
    strip, turned = pictures(shown), pictures(shown.viewed("reverse"))
    assert strip.times == ("0.5 s", "1.5 s", "2.5 s", "3.5 s") and strip.small
    opened, backwards = (_opened(picture) for picture in (strip, turned))
    assert opened.shape == (64, 4 * 64 + 3 * 2, 3)
    assert turned.views == "reverse 1" and np.abs(opened - backwards).mean() > 1
    assert np.abs(backwards[:, :64] - opened[:, 198:]).mean() < 25, "the end comes first"


def _opened(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.address.split(",")[1]))), float)


def test_own_pictures_of_the_rejected_side() -> None:
    row = Pair(prompt=Prompt.user("Q", picture(0)), chosen="a", rejected="b", rejected_media=(picture(1),))
    chosen, rejected = card(row, Pictures()).sides
    assert not chosen.pictures and len(rejected.pictures) == 1


def test_rows_are_spread_evenly(tmp_path: Path) -> None:
    found = RunFolder(made.write_run(tmp_path, {"pairs": made.mirror_pairs(50)}))
    assert [row.origin.sample for row in found.rows[0].spread(5)] == [f"s{i:04d}" for i in (0, 10, 20, 30, 40)]
    assert len(list(found.rows[0].spread(80))) == 50
    assert len(cards(found.rows, 7, Pictures())) == 7


def test_gallery_shows_what_the_fit_learnt_from(tmp_path: Path) -> None:
    rows = {"candidates": made.mirror_pairs(4), "pairs": made.mirror_pairs(2), "later": made.demos(1)}
    found = RunFolder(made.write_run(tmp_path, rows))
    assert [stage.name for stage in found.rows] == ["candidates", "pairs", "later"]
    assert [stage.name for stage in found.learnt] == ["pairs"]


def test_preview_shows_every_stage_and_value(tmp_path: Path) -> None:
    folder = made.write_run(tmp_path, {"describe": made.demos(3), "pairs": made.mirror_pairs(2)})
    (folder / "rounds" / "0" / "graph.json").write_text('{"count": {"<cat>": 3}}')
    page = write_preview(folder)
    assert page.name == "preview.html"
    text = page.read_text()
    assert text.count('<article class="pair') == 5 and text.count("data:image/jpeg") == 5
    assert "&lt;cat&gt;" in text and ">graph</h2>" in text
