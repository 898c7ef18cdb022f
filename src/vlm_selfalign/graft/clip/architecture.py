"""What the tiny open_clip model is: its configuration, its tokenizer, and the folder open_clip loads it from.

::

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

NAME = "vlm-selfalign-world"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PAD, END = "<pad>", "<end>"
CONTEXT = 64
"""Tokens of the longest text; what is longer is cut."""

VOCABULARY = 640
"""Two special tokens, 256 bytes, and the pieces of words that captions are made of."""

PREPROCESS: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bilinear",
    "resize_mode": "squash",
}

MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "init_logit_scale": 2.5,
    "init_logit_bias": -2.5,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 8,
        "width": 96,
        "head_width": 32,
        "layers": 3,
        "pool_type": "avg",
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "hf_tokenizer_name": ".",
        "tokenizer_kwargs": {},
        "width": 96,
        "heads": 3,
        "layers": 3,
        "pad_id": 0,
        "eos_id": 1,
        "pool_type": "eos",
    },
}
"""A sigmoid head (Zhai et al. 2023): a picture may fit many texts, and a score has a meaning of its own."""


def build(seed: int) -> Any:
    """The model with random weights, by open_clip's own registry of configurations."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / f"{NAME}.json").write_text(json.dumps(MODEL))
        open_clip.add_model_config(scratch)
    torch.manual_seed(seed)
    return open_clip.create_model(NAME)


def tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learnt from ``texts``; nothing is ever unknown, case does not count."""
    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learn = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, END], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, learn)
    inner.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=PAD, eos_token=END, padding_side="right")


def save(model: Any, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights in half precision, configuration and tokenizer, as open_clip's ``local-dir:`` expects them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}, indent=2) + "\n")
    words.save_pretrained(folder)
