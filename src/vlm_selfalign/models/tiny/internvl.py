"""InternVL 3: a picture in up to four tiles of 28 pixels and as a whole, 4 tokens each, a Qwen2."""

from __future__ import annotations

from transformers import GotOcr2ImageProcessor, InternVLConfig, InternVLProcessor, InternVLVideoProcessor

from vlm_selfalign.models.tiny import chat
from vlm_selfalign.models.tiny.kit import LAYERS, Kit, language
from vlm_selfalign.models.tiny.words import id_of, tokenizer_with

_ENDS = ("<|im_end|>", "<|endoftext|>")
_NAMED = {
    "context_image_token": "<IMG_CONTEXT>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "video_token": "<video>",
}


def internvl() -> Kit:
    """The frames of a clip are pictures to the model: it knows only ``pixel_values``."""
    special = [_ENDS[1], "<|im_start|>", _ENDS[0], *_NAMED.values()]
    words = tokenizer_with(special, eos=_ENDS[0], pad=_ENDS[1], named=_NAMED)
    side = {"height": 28, "width": 28}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=side, crop_to_patches=True, max_patches=4),
        words,
        InternVLVideoProcessor(size=side),
        image_seq_length=4,
        chat_template=chat.chatml("<IMG_CONTEXT>\\n", "<video>\\n"),
    )
    config = InternVLConfig(
        text_config=language(words) | {"model_type": "qwen2"},
        vision_config=LAYERS | {"image_size": [28, 28], "patch_size": [7, 7]},
        image_token_id=id_of(words, "<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    return Kit(config, processor, _ENDS, tuple(_NAMED.values()))
