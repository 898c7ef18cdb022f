"""The second edition's shape: the same genuine Qwen2-VL classes, deeper, with positions that can be told apart."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vlm_selfalign.pretrain import architecture

TEXT = {"num_hidden_layers": 6, "intermediate_size": 256}
VISION = {"embed_dim": 96, "depth": 3}
ROPE = {"rope_type": "default", "rope_theta": 200.0, "mrope_section": [3, 5, 8]}
"""With the usual 10,000 a row is 0.03 rad from the next one, and a column 0.002: nobody can tell left from right.

The slots of a clip take the three fastest of 16 frequencies, rows five, columns eight; a text takes all.
"""


def configuration(ids: dict[str, int], vocabulary: int) -> Qwen2VLConfig:
    """The configuration, given the ids of the special tokens and the number of tokens."""
    config: Any = architecture.configuration(ids, vocabulary)
    text, vision = config.text_config.to_dict() | TEXT, config.vision_config.to_dict() | VISION
    text |= {"rope_parameters": ROPE}
    text.pop("layer_types", None)  # one for each layer: made anew for the new number of layers
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{name: getattr(config, name) for name in _TOKENS},
    )


_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def build(config: Qwen2VLConfig, seed: int) -> Qwen2VLForConditionalGeneration:
    """A fresh model; see ``pretrain.architecture.build``."""
    model = architecture.build(config, seed)
    generation: Any = model.generation_config
    generation.max_new_tokens = 160
    return model
