"""LLaVA 1.5: a CLIP tower of 56 pixels, a two-layer projector, a Llama; 16 tokens for every picture."""

from __future__ import annotations

from transformers import CLIPImageProcessor, LlavaConfig, LlavaProcessor

from vlm_selfalign.models.tiny import chat
from vlm_selfalign.models.tiny.kit import LAYERS, Kit, language
from vlm_selfalign.models.tiny.words import id_of, tokenizer_with


def llava() -> Kit:
    """The features are those of the last layer but one, without the class token."""
    words = tokenizer_with(
        ["<unk>", "<s>", "</s>", "<pad>", "<image>"],
        eos="</s>",
        pad="<pad>",
        bos="<s>",
        adds_bos=True,
        named={"image_token": "<image>"},
    )
    images = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = LlavaProcessor(
        images,
        words,
        patch_size=14,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=chat.vicuna(),
    )
    eye = LAYERS | {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14, "projection_dim": 32}
    config = LlavaConfig(
        text_config=language(words) | {"model_type": "llama"},
        vision_config=eye,
        image_token_index=id_of(words, "<image>"),
        image_seq_length=16,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return Kit(config, processor, ends=("</s>",), media=("<image>",))
