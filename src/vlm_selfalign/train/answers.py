"""The fast step under adapters that act on answers alone.

The engine packs texts into a row whose tokens no model could tell apart by looking, so the model is told which of them
are an answer's. What a prompt's tokens are must then be the same in all texts that share them: texts of which one goes
on where another's answer began (turns of one dialogue) cannot share a row, and go the plain way.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor

from vlm_selfalign.models.answer_adapters import Places, acts_on_answers, from_opening
from vlm_selfalign.train.batch import Item
from vlm_selfalign.train.engine.fitness import Unfit
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.tree import Tree
from vlm_selfalign.train.score import TokenScores
from vlm_selfalign.train.texts import start_of


class AnswerEngine(Engine):
    """The engine, telling the model before each forward which tokens of the row are an answer's."""

    def score(self, model: Any, tree: Tree, scored_NT: Tensor, **given: Any) -> TokenScores:
        """As the engine's. Raises ``Unfit`` when texts disagree about what is an answer's."""
        self._tell(model, tree)
        return super().score(model, tree, scored_NT, **given)

    def hidden(self, model: Any, tree: Tree) -> tuple[Tensor, Tensor]:
        """As the engine's."""
        self._tell(model, tree)
        return super().hidden(model, tree)

    def _tell(self, model: Any, tree: Tree) -> None:
        inner = extract_model_from_parallel(model)
        places = acts_on_answers(inner)
        if places is not None:
            # The last layer may be given the tokens alone whose outputs are scored: all of them an answer's
            answer_T = answers_in(tree, places).to(next(inner.parameters()).device)
            places.give(answer_T[None], kept=len(tree.row_M.unique()))


def answers_in(tree: Tree, places: Places) -> Tensor:
    """Bool ``[T]``: the tokens of a row from their texts' last openings on. Raises ``Unfit``."""
    answer_T = torch.zeros(len(tree.ids_T), dtype=torch.bool)
    prompt_T = torch.zeros_like(answer_T)
    for spots in tree.places:
        spot_T = torch.from_numpy(spots)
        found_T = from_opening(tree.ids_T.cpu()[spot_T][None], places.opening)[0]
        answer_T[spot_T[found_T]] = True
        prompt_T[spot_T[~found_T]] = True
    if bool((answer_T & prompt_T).any()) or not bool(answer_T[tree.row_M.cpu()].all()):
        raise Unfit("one text's answer is another's prompt, and the adapter acts on answers alone")
    return answer_T


def quarrel(items: Sequence[Item], opening: tuple[int, ...]) -> str | None:
    """Why these rows can never all go as trees: a row whose answer lies in another one's prompt."""
    texts = [(item, text) for item in items for text in item.texts.values()]
    starts: dict[Hashable, str] = {}
    for item, text in texts:
        starts.setdefault((text.prompt.media, text.ids[: start_of(text.ids, opening) + 1]), item.row.id)
    for item, text in texts:
        last = start_of(text.ids, opening)
        for place in (at for at in range(last) if text.ids[at] == opening[0]):
            other = starts.get((text.prompt.media, text.ids[: place + 1]))
            if other is not None:
                return f"the answer of row {other} lies in the prompt of row {item.row.id}"
    return None
