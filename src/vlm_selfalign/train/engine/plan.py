"""From encoded texts to a tree: who shares what, where each token stands, what is shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vlm_selfalign.models.families import unwrapped
from vlm_selfalign.train.engine.fitness import Unfit
from vlm_selfalign.train.engine.tree import Tree, plant
from vlm_selfalign.train.engine.vision import Look, content_key
from vlm_selfalign.train.texts import PER_TOKEN, Text, Texts


class Planner:
    """Plants trees for one model; knows the pictures of every prompt it has met by their content."""

    def __init__(self, model: Any, maker: Texts) -> None:
        self.maker = maker
        self._rope: Callable[..., Any] | None = getattr(unwrapped(model).base_model, "get_rope_index", None)
        self._takes = set(inspect.signature(self._rope).parameters) if self._rope else set()
        config = unwrapped(model).config
        names = (f"{kind}_token_{what}" for kind in ("image", "video") for what in ("id", "index"))
        self._placeholders = {getattr(config, name, None) for name in names} - {None}
        self._looks: dict[Any, tuple[Look, dict[str, Tensor]]] = {}

    def __call__(self, texts: Sequence[Text]) -> Tree:
        """A tree on the CPU; texts keep their order."""
        roots = [self._shown(text) for text in texts]
        tree, of_root = plant(texts, roots), dict(zip(roots, texts, strict=True))
        tree.looks = tuple(self._look(of_root[root])[0] for root in tree.roots if root)
        for name in PER_TOKEN:
            if any(name in text.kinds for text in texts):
                tree.kinds = {**tree.kinds, name: tree.gathered([_kinds(text, name) for text in texts])[None]}
        tree.positions = tree.gathered([self._positions(text) for text in texts]).unsqueeze(-2)
        return tree

    def _shown(self, text: Text) -> Any:
        """What texts must have in common to share anything: all they show, and every word up to the last of it.

        Otherwise a picture could stand in two branches, or one of two pictures before a fork and one behind.
        """
        if not text.prompt.media:
            return ()
        last = max((place for place, token in enumerate(text.ids) if token in self._placeholders), default=None)
        if last is None:
            raise Unfit("no token stands for the pictures of a prompt")
        return text.prompt.media, text.ids[: last + 1]

    def _positions(self, text: Text) -> Tensor:
        """The model's own, of this text alone: never "one more than the last", which is wrong after a picture."""
        if self._rope is None:
            return torch.arange(len(text.ids))
        grids = self._look(text)[1] if text.prompt.media else {}
        given = {"input_ids": torch.tensor([text.ids]), "mm_token_type_ids": _kinds(text, "mm_token_type_ids")[None]}
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        return self._rope(**{name: t for name, t in {**given, **grids}.items() if name in self._takes})[0][:, 0]

    def _look(self, text: Text) -> tuple[Look, dict[str, Tensor]]:
        known = self._looks.get(text.prompt.media)
        if known is None:
            tensors = self.maker.media_of(text)
            look = Look(content_key(tensors), lambda: self.maker.media_of(text))
            known = look, {name: tensor for name, tensor in tensors.items() if name in self._takes}
            self._looks[text.prompt.media] = known
        return known


def _kinds(text: Text, name: str) -> Tensor:
    found: Mapping[str, tuple[int, ...]] = text.kinds
    return torch.tensor(found.get(name, (0,) * len(text.ids)))
