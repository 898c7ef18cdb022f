"""The second edition's shape: the same genuine Qwen2-VL classes, deeper, with positions that can be told apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vlm_selfalign.pretrain import architecture

TEXT = {"num_hidden_layers": 6, "intermediate_size": 256}
VISION = {"embed_dim": 96, "depth": 3}

FREQUENCIES = {
    "slot": (1.0, 0.43, 0.17, 1e-4, 1e-4),
    "row": (1.0, 0.43, 0.17, 1e-4, 1e-4),
    "column": (1.0, 0.43, 0.17, 1e-4, 1e-4, 1e-4),
}
"""Radians from one position to the next, of each pair of a head's dimensions; a text's tokens have all three alike.

By default they fall in a geometric row, slots first: a column is then next to nothing from the one beside it, and
hardly any pair stays put over a text of a hundred tokens, so that a word of a question does not find itself in it.
Here each axis has quick pairs that tell places apart, and slow ones that compare what stands there.
"""
MATCHING = 3
"""Layers whose queries begin as their keys: see ``pretrain.architecture``."""
BACK = {0: (1, 2), 1: (3, 4)}
"""By layer: how far the queries of its first key head look back, each to another token."""
SLOW, NEAR = 0.01, 0.17
"""Frequencies up to ``SLOW`` hardly turn and compare contents; at ``NEAR`` a match is the worse the nearer it is."""
COPIED = 0.3
"""How much of what a head looks at it adds, from the first step on."""
PULSE = 4.0
"""Length of each pair of a place head's key and query: at 4 two thirds or more of its look is on the right token."""
LENGTH = 2048


def configuration(ids: dict[str, int], vocabulary: int) -> Qwen2VLConfig:
    """The configuration, given the ids of the special tokens and the number of tokens."""
    config: Any = architecture.configuration(ids, vocabulary)
    text, vision = config.text_config.to_dict() | TEXT, config.vision_config.to_dict() | VISION
    text |= {"rope_parameters": _places(), "max_position_embeddings": LENGTH}
    text.pop("layer_types", None)  # one for each layer: made anew for the new number of layers
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{name: getattr(config, name) for name in _TOKENS},
    )


_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def _places() -> dict[str, Any]:
    """Longrope is the one kind of rotary positions whose frequencies a configuration can name one by one.

    With a base of 1 the factors are what they are divided by.
    """
    factors = [1 / frequency for axis in FREQUENCIES.values() for frequency in axis]
    return {
        "rope_type": "longrope",
        "rope_theta": 1.0,
        "factor": 1.0,
        "attention_factor": 1.0,
        "short_factor": factors,
        "long_factor": factors,
        "original_max_position_embeddings": LENGTH,
        "mrope_section": [len(axis) for axis in FREQUENCIES.values()],
    }


def build(config: Qwen2VLConfig, seed: int) -> Qwen2VLForConditionalGeneration:
    """A fresh model that starts out copying what it looks at, and looking a few tokens back in its first layers.

    See ``pretrain.architecture`` for what else it starts with.
    """
    model = architecture.build(config, seed)
    layers: Any = model.model.language_model.layers
    for layer in layers:
        _copy(layer.self_attn)
    for layer in layers[:MATCHING]:
        _match_elsewhere(layer.self_attn)
    for layer, back in BACK.items():
        _look_back(layers[layer].self_attn, back)
    generation: Any = model.generation_config
    generation.max_new_tokens = 160
    return model


@torch.no_grad()
def _copy(attention: nn.Module) -> None:
    """A head's output undoes its values: what it looks at is added as it is, as far as its dimensions carry it.

    As with equal queries and keys, a circuit that every answer needs stands from the start: with random values the
    colour of what is asked about was read after 200 steps, with these after 150.
    """
    layer: Any = attention
    values = torch.empty_like(layer.v_proj.weight)
    layer.v_proj.weight.copy_(nn.init.orthogonal_(values))
    layer.v_proj.bias.zero_()
    heads = values.view(layer.num_key_value_heads, layer.head_dim, -1).repeat_interleave(layer.num_key_value_groups, 0)
    layer.o_proj.weight.copy_(COPIED * heads.flatten(0, 1).T)


@torch.no_grad()
def _match_elsewhere(attention: nn.Module) -> None:
    """Queries like keys find the same word, and nearest of all themselves; these compare contents alone.

    Where a text is asked about, "cup" in the question shall find "cup" in the text: of two query heads with the same
    keys one does not mind where it stands, so that self and other are alike to it, and one minds being near.
    """
    layer: Any = attention
    quick = torch.tensor([frequency > SLOW for axis in FREQUENCIES.values() for frequency in axis])
    near = torch.tensor([frequency == NEAR for axis in FREQUENCIES.values() for frequency in axis])
    queries = layer.q_proj.weight.view(-1, 2, len(quick), layer.q_proj.in_features)
    queries[:, :, quick] = 0.0
    keys = layer.k_proj.weight.view(layer.num_key_value_heads, 2, len(near), layer.k_proj.in_features)
    queries[1 :: layer.num_key_value_groups][:, :, near] = -keys[:, :, near]


@torch.no_grad()
def _look_back(attention: nn.Module, back: tuple[int, ...]) -> None:
    """The first key head's queries ask for a place, not for a content.

    What stands before a word is what texts are read by ("a red car"); left alone it is found late. The smeared keys of
    Olsson et al. 2022 build the same into a layer.
    """
    layer: Any = attention
    size = layer.head_dim
    layer.k_proj.weight[:size], layer.k_proj.bias[:size] = 0.0, 0.0
    layer.k_proj.bias[: size // 2] = PULSE
    assert len(back) == layer.num_key_value_groups
    for head, places in enumerate(back):
        here = slice(head * size, (head + 1) * size)
        layer.q_proj.weight[here] = 0.0
        layer.q_proj.bias[here] = PULSE * _turned(size, places)


def _turned(size: int, back: int) -> Tensor:
    """What, turned on by ``back`` places, gives (1, 0) in every pair; rotary pairs are (i, i + half)."""
    angles = back * torch.tensor([frequency for axis in FREQUENCIES.values() for frequency in axis])
    assert len(angles) == size // 2
    return torch.cat([angles.cos(), -angles.sin()])
