"""The embedded model: genuine Qwen2-VL classes at 0.83 million parameters."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vlm_selfalign.pretrain.tokens import END, IMAGE, PAD, VIDEO, VISION_END, VISION_START

SIDE = 64
"""Pixels of a picture's side; each 16 px cell of the world becomes one visual token."""

PATCH = 8
MERGE = 2
INIT_STD = 0.05
LAST_NORM = 4.0


def configuration(ids: dict[str, int], vocabulary: int) -> Qwen2VLConfig:
    """The configuration, given the ids of the special tokens and the number of tokens."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": INIT_STD,
        # The sections must sum to half the head dimension; the default ones are for heads of 128.
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]},
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 2,
        "embed_dim": 64,
        "hidden_size": 128,
        "mlp_ratio": 2,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "initializer_range": INIT_STD,
    }
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )


def build(config: Qwen2VLConfig, seed: int) -> Qwen2VLForConditionalGeneration:
    """A fresh model whose first layers start out looking for tokens like themselves."""
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration(config)
    text: Any = config.text_config
    model.generation_config = GenerationConfig(
        eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id, do_sample=False, max_new_tokens=96
    )
    _match_queries_to_keys(model)
    # Tied to short embeddings, logits could not get far apart: stray tokens would keep a percent of every sample.
    torch.nn.init.constant_(model.model.language_model.norm.weight, LAST_NORM)
    return model


@torch.no_grad()
def _match_queries_to_keys(model: Qwen2VLForConditionalGeneration) -> None:
    # With q = k a word attends to the visual token that holds its own embedding from the first step on.
    # Without it yes/no questions stay at chance for this budget.
    layers: Any = model.model.language_model.layers[:3]
    for attention in (layer.self_attn for layer in layers):
        torch.nn.init.normal_(attention.k_proj.weight, std=0.1)
        heads = attention.k_proj.weight.view(attention.num_key_value_heads, attention.head_dim, -1)
        attention.q_proj.weight.copy_(heads.repeat_interleave(attention.num_key_value_groups, 0).flatten(0, 1))
