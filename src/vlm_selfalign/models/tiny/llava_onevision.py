"""LLaVA-OneVision: a SigLIP tower of 28 pixels, a picture as a whole and in up to two tiles, a Qwen2."""

from __future__ import annotations

from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
)

from vlm_selfalign.models.tiny import chat
from vlm_selfalign.models.tiny.kit import LAYERS, Kit, language
from vlm_selfalign.models.tiny.words import id_of, tokenizer_with

_ENDS = ("<|im_end|>", "<|endoftext|>")


def llava_onevision() -> Kit:
    """16 tokens for the whole picture, 16 for every tile (padding cut off), one for every row of tiles' patches."""
    named = {"image_token": "<image>", "video_token": "<video>"}
    special = [_ENDS[1], "<|im_start|>", _ENDS[0], *named.values()]
    words = tokenizer_with(special, eos=_ENDS[0], pad=_ENDS[1], named=named)
    side, tiles = {"height": 28, "width": 28}, [[28, 28], [28, 56], [56, 28]]
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=side, image_grid_pinpoints=tiles),
        words,
        LlavaOnevisionVideoProcessor(size=side),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chat.chatml("<image>\\n", "<video>\\n"),
    )
    eye = LAYERS | {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7, "vision_use_head": False}
    config = LlavaOnevisionConfig(
        text_config=language(words) | {"model_type": "qwen2"},
        vision_config=eye,
        image_token_index=id_of(words, "<image>"),
        video_token_index=id_of(words, "<video>"),
        image_grid_pinpoints=tiles,
        tie_word_embeddings=True,
    )
    return Kit(config, processor, _ENDS, tuple(named.values()))
