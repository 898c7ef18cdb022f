"""Hybrids: layers that read on know no mask, so each node of a tree begins with a copy of its parent's states.

transformers' caches write states in place, which breaks the graph of whoever read them before; here they are assigned.
A copy of a cache then copies no tensor. Positions stay the model's own.

Shapes: T tokens of the row, M wanted places, D width.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionLayer,
)

from vlm_selfalign.train.engine.tree import Tree


class _Assigned(LinearAttentionLayer):
    """States of one linear layer, assigned and never written into."""

    def __init__(self, number_of_states: int = 1, **given: Any) -> None:
        super().__init__(number_of_states=number_of_states, **given)
        self.record_past = True
        """Keeps models from updating the convolution in place when one token comes alone."""

    def update_conv_state(
        self, conv_states: Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **_: Any
    ) -> Tensor:
        """What the convolution reads: the end of what came before, and what comes now."""
        before = self.conv_states[state_idx]
        size = conv_kernel_size or self.conv_kernel_size[state_idx] or conv_states.shape[-1]
        missing = max(0, size - conv_states.shape[-1]) if before is None else 0
        seen = nn.functional.pad(conv_states, (missing, 0)) if before is None else torch.cat((before, conv_states), -1)
        self.conv_states[state_idx], self.conv_kernel_size[state_idx] = seen[..., -size:], size
        self.is_conv_states_initialized[state_idx] = self.has_previous_state[state_idx] = True
        self.dtype, self.device = conv_states.dtype, conv_states.device
        return seen

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **_: Any) -> Tensor:
        """The new state."""
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states


class _AssignedBoth(_Assigned, LinearAttentionAndFullAttentionLayer):
    """The same beside keys and values, which transformers assigns already."""


_OURS = {LinearAttentionLayer: _Assigned, LinearAttentionAndFullAttentionLayer: _AssignedBoth}


def can_fork(text: Any) -> bool:
    """Whether all that a model remembers (its text config says what) can be forked."""
    return all(type(layer) in (DynamicLayer, *_OURS) for layer in DynamicCache(config=text).layers)


def forked_hidden(model: Any, text: Any, tree: Tree, take: Callable[..., Tensor]) -> Tensor:
    """The wanted places' states before the output layer, ``[M, D]``.

    Args:
        model: Takes ``input_ids``, ``position_ids`` and ``past_key_values``.
        text: Its text config.
        tree: On the model's device.
        take: Runs the model on inputs and gives the states of some of its places.
    """
    open_: list[tuple[int, DynamicCache]] = []
    found: list[Tensor] = []
    assert tree.positions is not None
    with _remembering(model):
        for node in tree.nodes:  # parents first
            while open_ and open_[-1][0] <= node.start:
                open_.pop()
            cache = _fork(open_[-1][1]) if open_ else _empty(text)
            own = slice(node.start, node.end)
            inputs = {"input_ids": tree.ids_T[None, own], "position_ids": tree.positions[..., own]}
            wanted_M = tree.row_M[(tree.row_M >= node.start) & (tree.row_M < node.end)] - node.start
            found.append(take({**inputs, "past_key_values": cache, "use_cache": True}, wanted_M))
            open_.append((node.reach, cache))
    return torch.cat(found)


def _empty(text: Any) -> DynamicCache:
    cache = DynamicCache(config=text)
    for place, layer in enumerate(cache.layers):
        if isinstance(layer, LinearAttentionLayer):
            cache.layers[place] = _OURS[type(layer)](number_of_states=layer.number_of_states)
    return cache


def _fork(cache: DynamicCache) -> DynamicCache:
    made = copy.copy(cache)
    made.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in made.layers:
        vars(layer).update({name: dict(value) for name, value in vars(layer).items() if isinstance(value, dict)})
    return made


@contextlib.contextmanager
def _remembering(model: Any) -> Iterator[None]:
    """Without checkpointing, which drops what a layer is told to remember, with no more than a warning."""
    checkpointed = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    for module in checkpointed:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in checkpointed:
            module.gradient_checkpointing = True
