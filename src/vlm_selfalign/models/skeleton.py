"""A model without its weights: enough to check a processor, LoRA targets and memory in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.models.families import lora_targets, parameters_of
from vlm_selfalign.models.load import Loaded, load

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


@dataclass(frozen=True)
class Needs:
    """What a model takes: parameters, those that learn, and memory in bytes for answering and for training."""

    parameters: int
    trainable: int
    to_answer: int
    to_train: int


def skeleton(settings: ModelSettings) -> Loaded:
    """Processor, tokenizer and the model's structure on the meta device. Raises ``UserError`` like ``load``."""
    return load(settings.model_copy(update={"device": "meta", "quantize": None}))


def free_memory() -> int:
    """Bytes free on the GPU, or in the machine without one; 0 where the system does not tell."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return 0
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def needs(loaded: Loaded, settings: ModelSettings, freeze: tuple[str, ...] = ()) -> Needs:
    """Memory for weights, gradients and Adam's two moments; activations come on top.

    Raises ``UserError`` when LoRA targets fit no layer.
    """
    with torch.no_grad():
        parameters = sum(p.numel() for p in loaded.model.parameters())
        if settings.lora:
            wanted = set(lora_targets(loaded.model, settings.lora.targets))
            sizes = [m.weight.shape for name, m in loaded.model.named_modules() if name in wanted]
            trainable = sum(settings.lora.r * (shape[0] + shape[1]) for shape in sizes)
        else:
            frozen = {id(p) for p in parameters_of(loaded.model, freeze)}
            trainable = sum(p.numel() for p in loaded.model.parameters() if id(p) not in frozen)
    weights = parameters // 2 if settings.quantize else parameters * BYTES[settings.dtype]
    copies = 1 if settings.lora else 2  # full weights keep a frozen reference beside what learns
    return Needs(parameters, trainable, weights, weights * copies + trainable * 12)
