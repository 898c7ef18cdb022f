"""Tiny random-weight checkpoints of real families, built in code: offline, in a second, the same for the same seed.

::

    folder = build("qwen2_5_vl", tmp_path / "model")
    AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)

They are for plumbing (loading, batching, training, adapters): genuine processors and model classes, two layers
of width 32, pictures of tens of tokens. Their answers mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig, PreTrainedModel

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.models.tiny import gemma3, idefics, internvl, llava, llava_onevision, qwen_vl, text
from vlm_selfalign.models.tiny.kit import Kit


@dataclass(frozen=True)
class Takes:
    """What a family's prompt may hold besides text."""

    images: bool = False
    several_images: bool = False
    video: bool = False


_STILLS = Takes(images=True, several_images=True)
_ALL = Takes(images=True, several_images=True, video=True)

FAMILIES: dict[str, Takes] = {
    "qwen2_vl": _ALL,
    "qwen2_5_vl": _ALL,
    "qwen3_vl": _ALL,
    "llava": _STILLS,
    "llava_onevision": _ALL,
    "smolvlm": _ALL,
    "idefics3": _STILLS,
    "internvl": _ALL,
    "gemma3": _STILLS,
    "llama": Takes(),
    "qwen2": Takes(),
    "qwen3": Takes(),
}
"""The families that ``build`` knows, and what their code accepts (not what a real checkpoint is good at)."""

_KITS: dict[str, Callable[[], Kit]] = {
    "qwen2_vl": qwen_vl.qwen2_vl,
    "qwen2_5_vl": qwen_vl.qwen2_5_vl,
    "qwen3_vl": qwen_vl.qwen3_vl,
    "llava": llava.llava,
    "llava_onevision": llava_onevision.llava_onevision,
    "smolvlm": idefics.smolvlm,
    "idefics3": idefics.idefics3,
    "internvl": internvl.internvl,
    "gemma3": gemma3.gemma3,
    "llama": text.llama,
    "qwen2": text.qwen2,
    "qwen3": text.qwen3,
}


def build(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a complete checkpoint folder and return it: fp32 weights, tokenizer, processor, template, settings.

    The same family and seed give the same bytes; torch's own random state is left alone.
    Raises ``UserError`` for an unknown family.
    """
    if family not in _KITS:
        raise UserError(f"no tiny model of family '{family}'{nearest(family, _KITS)}")
    kit = _KITS[family]()
    folder = Path(folder)
    _model(kit, seed, sees=FAMILIES[family].images).save_pretrained(folder)
    kit.processor.save_pretrained(folder)
    return folder


def _model(kit: Kit, seed: int, sees: bool) -> PreTrainedModel:
    auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(kit.config, dtype=torch.float32)
        _spread(model)
    model.generation_config = GenerationConfig(
        bos_token_id=kit.tokenizer.bos_token_id,
        eos_token_id=kit.ids(kit.ends),
        pad_token_id=kit.tokenizer.pad_token_id,
        suppress_tokens=kit.ids(kit.media) or None,
    )
    return model


@torch.no_grad()
def _spread(model: PreTrainedModel) -> None:
    """Draw every matrix with unit gain.

    The families' own standard deviation of 0.02 at width 32 makes all tokens equally likely and pictures
    invisible (Gemma's projector even starts at zero), so that greedy decoding would hang on rounding errors.
    """
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0.0, 1.0 / math.sqrt(weight[0].numel()))
