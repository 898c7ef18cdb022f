"""What a few samples cost, found with the real processor and without weights: tokens, memory, seconds.

Formulas, for B prompts of T tokens, L layers of width h, in bytes a number of p:

* keys and values: 2 L (key-value heads x head width) p B T. Layers that look back over a window count in full.
* answering, at the widest layer: (4 h + 2 x inner width) p B T.
* learning, activations kept for the backward pass: 17 h L p B T, which is the 34 s b h a layer of 16 bit numbers of
  Korthikanti et al. (2022, section 4.1) without the attention matrix, which no backend in use keeps. With
  checkpointing: h L p B T for the layers' inputs and one layer's 17 h p B T.

They leave out the vision tower and the output layer and mean the order of magnitude, not the megabyte.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vlm_selfalign.config import MediaSettings
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.models.encode import Encoder, EncodingError
from vlm_selfalign.models.shown import Kept, load_shown

_SLOW = 2.0


@dataclass
class Looked:
    """What a few prompts came to."""

    tokens: list[int] = field(default_factory=list)
    """Of each prompt that can be read."""
    visual: list[int] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    """Why others cannot."""
    shown_bytes: int = 0
    """Of the largest prompt's decoded pictures and clips."""


@dataclass(frozen=True)
class Clock:
    """What one clip took to decode."""

    seconds: float
    frames: int


def look_at(encoder: Encoder, prompts: Iterable[Prompt]) -> Looked:
    """Read prompts as the model would. Raises ``UserError`` for media that the model takes none of."""
    found = Looked()
    for prompt in prompts:
        try:
            batch = encoder.batch([prompt], apart=any(media.kind == "video" for media in prompt.media))
            shown = encoder.shown(prompt)
        except (EncodingError, MediaError) as error:
            found.failed[error.reason if isinstance(error, MediaError) else str(error)] += 1
            continue
        ids = batch.inputs["input_ids"][0].tolist()
        found.tokens.append(len(ids))
        found.visual.append(sum(i in encoder.placeholders for i in ids))
        size = sum(one.frames.nbytes if isinstance(one, Clip) else 3 * one.width * one.height for one in shown)
        found.shown_bytes = max(found.shown_bytes, size)
    return found


def time_clip(media: Media, settings: MediaSettings) -> Clock:
    """How long a clip takes to decode, when that is warm. Raises ``MediaError``."""
    seconds, clip = _timed(media, settings)
    if seconds < _SLOW:  # the first one may have started the process that decodes
        seconds, clip = _timed(media, settings)
    return Clock(seconds, len(clip) if isinstance(clip, Clip) else 1)


def to_answer(config: Any, tokens: int, rows: int, bytes_each: int) -> int:
    """Bytes that answering takes beside the weights."""
    text = config.get_text_config()
    layers, width, heads = text.num_hidden_layers, text.hidden_size, text.num_attention_heads
    head = getattr(text, "head_dim", None) or width // heads
    cache = 2 * layers * (getattr(text, "num_key_value_heads", None) or heads) * head
    inner = getattr(text, "intermediate_size", None) or 4 * width
    return (cache + 4 * width + 2 * inner) * bytes_each * tokens * rows


def to_learn(config: Any, tokens: int, rows: int, bytes_each: int, checkpointing: bool) -> int:
    """Bytes of activations that a training step takes beside weights, gradients and moments."""
    text = config.get_text_config()
    layers, width = text.num_hidden_layers, text.hidden_size
    kept = layers + 17 if checkpointing else 17 * layers
    return kept * width * bytes_each * tokens * rows


def _timed(media: Media, settings: MediaSettings) -> tuple[float, Any]:
    started = time.perf_counter()
    clip = load_shown(media, settings, Kept(0))
    return time.perf_counter() - started, clip
