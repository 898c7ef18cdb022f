from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.train.engine.attention import visible
from vlm_selfalign.train.engine.tree import plant


@dataclass(frozen=True)
class Line:
    ids: tuple[int, ...]
    scored: int


lines = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=2, max_size=8), st.integers(1, 7), st.integers(0, 1)),
    min_size=1,
    max_size=6,
)


def planted(drawn):
    texts = [Line(tuple(ids), min(scored, len(ids) - 1)) for ids, scored, _ in drawn]
    return texts, plant(texts, [root for *_, root in drawn])


@settings(deadline=None)
@given(lines)
def test_every_text_can_be_read_off_the_row(drawn):
    texts, tree = planted(drawn)
    for text, places in zip(texts, tree.places, strict=True):
        assert tuple(tree.ids_T[torch.from_numpy(places)].tolist()) == text.ids
        assert tree.depth_T[torch.from_numpy(places)].tolist() == list(range(len(text.ids)))


@settings(deadline=None)
@given(lines)
def test_a_token_sees_its_own_beginnings_and_nothing_else(drawn):
    _, tree = planted(drawn)
    seen = visible(tree.nodes)
    for places in tree.places:
        for at, place in enumerate(places.tolist()):
            assert set(seen[place].nonzero()[:, 0].tolist()) == set(places[: at + 1].tolist())


@settings(deadline=None)
@given(lines)
def test_nothing_equal_stands_twice_under_one_root(drawn):
    texts, tree = planted(drawn)
    beginnings = {(root, text.ids[:n]) for text, (*_, root) in zip(texts, drawn, strict=True) for n in range(1, 9)}
    assert len(tree.ids_T) == len({(root, ids) for root, ids in beginnings if ids})


@settings(deadline=None)
@given(lines)
def test_scored_tokens_come_in_the_order_of_the_texts(drawn):
    texts, tree = planted(drawn)
    wanted = [token for text in texts for token in text.ids[len(text.ids) - text.scored :]]
    assert tree.next_M[tree.pair_S].tolist() == wanted
    before = [p for text, places in zip(texts, tree.places, strict=True) for p in places[-text.scored - 1 : -1]]
    assert tree.row_M[tree.pair_S].tolist() == before


def test_the_last_word_of_the_prompt_predicts_every_first_word():
    tree = plant([Line((1, 2, 3), 1), Line((1, 2, 4), 1), Line((1, 2, 3), 1)], [0, 0, 0])
    assert tree.row_M.tolist() == [1, 1] and tree.next_M.tolist() == [3, 4]
    assert tree.pair_S.tolist() == [0, 1, 0]


def test_other_roots_share_nothing():
    texts = [Line((1, 2, 3), 1), Line((1, 2, 4), 1)]
    assert len(plant(texts, ["a", "b"]).ids_T) == 6
    assert len(plant(texts, ["a", "a"]).ids_T) == 4


@pytest.mark.parametrize("bad", [Line((1,), 0), Line((1, 2), 2)])
def test_a_first_token_cannot_be_scored(bad):
    with pytest.raises(ValueError, match="not scored"):
        plant([bad], [0])
