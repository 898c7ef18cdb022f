"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size, 2 x 2 patches of 7 pixels to a token, M-RoPE."""

from __future__ import annotations

from typing import Any

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from vlm_selfalign.models.tiny import chat
from vlm_selfalign.models.tiny.kit import Kit, language
from vlm_selfalign.models.tiny.words import id_of, tokenizer_with

_MEDIA = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_ENDS = ("<|im_end|>", "<|endoftext|>")
_PATCH: dict[str, Any] = {"patch_size": 7, "temporal_patch_size": 2}
_EYE: dict[str, Any] = _PATCH | {"depth": 2, "num_heads": 4, "spatial_merge_size": 2}
_CUT: dict[str, Any] = _PATCH | {"merge_size": 2}
_SIZE = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}
"""Whatever the keys say, these are numbers of pixels; without them a clip is blown up to 128 x 28 x 28."""


def qwen2_vl() -> Kit:
    """Qwen2-VL."""
    words, images = _words(), Qwen2VLImageProcessor(size=_SIZE, **_CUT)
    clips = Qwen2VLVideoProcessor(size=_SIZE, cap_pixels_per_frame=False, **_CUT)
    eye = _EYE | {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    config = Qwen2VLConfig(text_config=_speaks(words), vision_config=eye, **_shared(words))
    return Kit(config, Qwen2VLProcessor(images, words, clips, chat_template=_template(True)), _ENDS, _MEDIA)


def qwen2_5_vl() -> Kit:
    """Qwen2.5-VL: the first vision layer looks through windows of 28 pixels, the second at everything."""
    words, images = _words(), Qwen2VLImageProcessor(size=_SIZE, **_CUT)
    clips = Qwen2VLVideoProcessor(size=_SIZE, cap_pixels_per_frame=False, **_CUT)
    eye = _EYE | {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64}
    eye |= {"window_size": 28, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    config = Qwen2_5_VLConfig(text_config=_speaks(words), vision_config=eye, **_shared(words))
    return Kit(config, Qwen2_5_VLProcessor(images, words, clips, chat_template=_template(True)), _ENDS, _MEDIA)


def qwen3_vl() -> Kit:
    """Qwen3-VL: learned positions, and the first vision layer also feeds the first language layer (deepstack)."""
    words, images = _words(), Qwen2VLImageProcessor(size=_SIZE, **_CUT)
    frames = {"shortest_edge": 28 * 28, "longest_edge": 8 * 56 * 56}  # here the pixels of all frames together
    clips = Qwen3VLVideoProcessor(size=frames, cap_pixels_per_frame=False, do_sample_frames=False, **_CUT)
    eye = _EYE | {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64}
    eye |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    speaks = _speaks(words, mrope_interleaved=True) | {"head_dim": 8}
    config = Qwen3VLConfig(text_config=speaks, vision_config=eye, **_shared(words))
    return Kit(config, Qwen3VLProcessor(images, words, clips, chat_template=_template(False)), _ENDS, _MEDIA)


def _words() -> PreTrainedTokenizerFast:
    return tokenizer_with(["<|endoftext|>", "<|im_start|>", *_ENDS[:1], *_MEDIA], eos=_ENDS[0], pad=_ENDS[1])


def _template(default_system: bool) -> str:
    shown = [f"<|vision_start|>{pad}<|vision_end|>" for pad in _MEDIA[2:]]
    return chat.chatml(*shown, default_system=default_system)


def _speaks(words: PreTrainedTokenizerFast, **more: bool) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}  # sums to half of a head's 8
    return language(words) | {"rope_parameters": rope | more}


def _shared(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    ids = {name: id_of(words, token) for name, token in zip(names, _MEDIA, strict=True)}
    return {"tie_word_embeddings": True} | ids
