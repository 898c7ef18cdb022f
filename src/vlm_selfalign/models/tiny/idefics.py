"""Idefics 3 and SmolVLM: a picture in 2 x 2 tiles of 28 pixels and as a whole, 4 tokens each, a Llama."""

from __future__ import annotations

from typing import Any

from transformers import (
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from vlm_selfalign.models.tiny import chat
from vlm_selfalign.models.tiny.kit import LAYERS, Kit, language
from vlm_selfalign.models.tiny.words import id_of, tokenizer_with

_END = "<end_of_utterance>"
_NAMED = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": _END,
}
_TILES = tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))
_MEDIA = ("<image>", "<fake_token_around_image>", "<global-img>", *_TILES)
_SIZE: dict[str, Any] = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
"""Pictures are blown up or down to 56 pixels on their longer side and cut into tiles of 28."""


def idefics3() -> Kit:
    """Idefics 3."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<pad>", _END, *_MEDIA]
    words = tokenizer_with(
        special, eos="<|end_of_text|>", pad="<pad>", bos="<|begin_of_text|>", adds_bos=True, named=_NAMED
    )
    template = chat.utterances("<|begin_of_text|>")
    processor = Idefics3Processor(Idefics3ImageProcessor(**_SIZE), words, image_seq_len=4, chat_template=template)
    return Kit(Idefics3Config(**_config(words)), processor, ends=(_END, "<|end_of_text|>"), media=_MEDIA)


def smolvlm() -> Kit:
    """SmolVLM 2: also clips, frame by frame without tiles; for those its processor uses a template of its own."""
    special = ["<|im_start|>", "<|im_end|>", _END, *_MEDIA, "<video>"]
    named = _NAMED | {"video_token": "<video>"}
    words = tokenizer_with(special, eos=_END, pad="<|im_end|>", bos="<|im_start|>", named=named)
    # num_frames and fps are read by the processor whether there is a clip or not
    clips = SmolVLMVideoProcessor(**_SIZE, num_frames=4, fps=1)
    template = chat.utterances("<|im_start|>", video="<video>")
    processor = SmolVLMProcessor(SmolVLMImageProcessor(**_SIZE), words, clips, image_seq_len=4, chat_template=template)
    return Kit(SmolVLMConfig(**_config(words)), processor, ends=(_END,), media=(*_MEDIA, "<video>"))


def _config(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": language(words) | {"model_type": "llama"},
        "vision_config": LAYERS | {"image_size": 28, "patch_size": 7},
        "image_token_id": id_of(words, "<image>"),
        "pad_token_id": words.pad_token_id,
        "scale_factor": 2,
    }
