"""In the last layer only places whose outputs are read need a query, an attention output and an MLP.

Of all other tokens, the long prompt among them, that layer only has to give keys and values; the backward follows. A
hook asks the layer for keys and values of the whole row, stops it there, and lets it run on the wanted places with
them. Checkpointing leaves this layer out: the backward begins with it, so nothing is gained by letting go of it.

Shapes: T tokens of the row, Q wanted places, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from vlm_selfalign.models.families import unwrapped
from vlm_selfalign.train.engine.attention import KEYWORD, Branches, KeysAndValues


@contextlib.contextmanager
def wanted_alone(model: Any) -> Iterator[None]:
    """Within, the last decoder layer computes wanted places alone."""
    layer: Any = unwrapped(model).get_decoder().layers[-1]
    before = layer.gradient_checkpointing
    layer.gradient_checkpointing = False
    hook = layer.register_forward_pre_hook(_only_wanted, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        layer.gradient_checkpointing = before


def _only_wanted(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    branches: Branches = kwargs[KEYWORD]
    assert branches.wanted is not None
    hidden_1TD, *rest = args
    try:
        layer.forward(*args, **{**kwargs, KEYWORD: replace(branches, look=True)})
    except KeysAndValues as found:
        known = found.both
    else:
        return args, kwargs  # it attends past the tree, which the engine sees and refuses
    own = replace(branches, pieces=branches.wanted_pieces, known=known)
    given = {name: _at(value, branches.wanted, hidden_1TD.shape[1], name) for name, value in kwargs.items()}
    return (hidden_1TD[:, branches.wanted], *rest), {**given, KEYWORD: own}


def _at(value: Any, wanted_Q: Tensor, length: int, name: str) -> Any:
    """What a layer is told of every token, of the wanted ones alone: rotary positions, places, rows of a mask."""
    if isinstance(value, tuple):
        return tuple(_at(part, wanted_Q, length, name) for part in value)
    axis = -1 if name == "position_ids" else -2
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[axis] != length:
        return value
    return value.index_select(axis, wanted_Q)
