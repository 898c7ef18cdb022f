"""Gemma 3: a SigLIP tower of 56 pixels, 16 tokens a picture that see each other both ways, local and global layers."""

from __future__ import annotations

from transformers import Gemma3Config, Gemma3ImageProcessor, Gemma3Processor

from vlm_selfalign.models.tiny import chat
from vlm_selfalign.models.tiny.kit import LAYERS, Kit, language
from vlm_selfalign.models.tiny.words import id_of, tokenizer_with

_NAMED = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}


def gemma3() -> Kit:
    """A turn ends in ``<end_of_turn>``, which is not the tokenizer's end token."""
    special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *_NAMED.values()]
    words = tokenizer_with(special, eos="<eos>", pad="<pad>", bos="<bos>", adds_bos=True, named=_NAMED)
    images = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    processor = Gemma3Processor(images, words, image_seq_length=16, chat_template=chat.gemma())
    speaks = language(words) | {"head_dim": 8, "query_pre_attn_scalar": 8}
    speaks |= {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
    eye = LAYERS | {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 7, "vision_use_head": False}
    config = Gemma3Config(
        text_config=speaks,
        vision_config=eye,
        mm_tokens_per_image=16,
        image_token_index=id_of(words, "<image_soft_token>"),
        boi_token_index=id_of(words, "<start_of_image>"),
        eoi_token_index=id_of(words, "<end_of_image>"),
    )
    return Kit(config, processor, ends=("<end_of_turn>", "<eos>"), media=tuple(_NAMED.values()))
