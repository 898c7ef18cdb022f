"""What a prompt shows, on its own: the tensors that a vision tower reads, and the words that stand for them.

transformers' processors turn a whole batch into tensors at once. With clips that goes wrong in some families: clips of
unequal length are padded and the padding counted (SmolVLM) or refused (InternVL, LLaVA-OneVision), and pictures beside
a clip are lost (SmolVLM). So each clip goes through the processor by itself, with the placeholder that the chat
template writes as its only text; what the processor puts in its place is put into the prompt here. The processor opens
no file and picks no frames: it is given frames and their times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, cat

from vlm_selfalign.media.clip import Clip
from vlm_selfalign.models.shown import Shown

PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
"""Model inputs with one number per token."""


class EncodingError(ValueError):
    """One prompt cannot be turned into model inputs; the reason says why."""


@dataclass(frozen=True)
class Look:
    """What one prompt shows."""

    words: tuple[tuple[str, str], ...]
    """For each medium, in the prompt's order: the placeholder, and the text that takes its place."""
    parts: tuple[Mapping[str, Tensor], ...]
    """Model inputs by the processor's names: all pictures together or one by one, each clip by itself."""
    tokens: int
    """Tokens that features will take the place of."""
    kinds: tuple[str, ...] = ()
    """Which inputs with one number per token the processor makes."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The model inputs of all parts. Raises ``EncodingError`` where the family cannot have them in one."""
        return joined(self.parts)

    @property
    def positional(self) -> dict[str, Tensor]:
        """Of the model inputs those that say where tokens stand, not what is seen."""
        return joined([{name: t for name, t in part.items() if "pixel" not in name} for part in self.parts])

    def worded(self, text: str) -> str:
        """A prompt's text with all placeholders replaced. Raises ``EncodingError`` where they do not fit."""
        marks = {placeholder for placeholder, _ in self.words}
        pieces = re.split(f"({'|'.join(map(re.escape, sorted(marks, key=len, reverse=True)))})", text)
        found = [piece for piece in pieces if piece in marks]
        if found != [placeholder for placeholder, _ in self.words]:
            raise EncodingError("the prompt's text holds placeholders of media, or its template leaves some out")
        stands = iter(self.words)
        return "".join(next(stands)[1] if piece in marks else piece for piece in pieces)


class Looks:
    """Makes looks with one processor; ``placeholders`` are the ids that features take the place of."""

    def __init__(self, processor: Any, tokenizer: Any, placeholders: Sequence[int]) -> None:
        self._processor, self._tokenizer = processor, tokenizer
        self._placeholders = set(placeholders)
        self.family = type(processor).__name__.removesuffix("Processor")
        clips = getattr(processor, "video_processor", None) is not None
        self.video_token: str | None = getattr(processor, "video_token", None) if clips else None
        """What the chat template writes for a clip; None in a family that takes none."""

    def look(self, shown: Sequence[Shown]) -> Look:
        """All that one prompt shows. Raises ``EncodingError`` for what the family or its processor refuses."""
        clips = {place: self._processed([one]) for place, one in enumerate(shown) if isinstance(one, Clip)}
        pictures = {place: one for place, one in enumerate(shown) if not isinstance(one, Clip)}
        if not clips or any("pixel_values_videos" in raw for raw in clips.values()):
            # pictures have inputs of their own: together, since how many there are can change their resolution
            parts = ([self._processed(list(pictures.values()))] if pictures else []) + list(clips.values())
            ordered = _in_order(parts, list(pictures) + list(clips))
        else:
            parts = [clips.get(place) or self._processed([shown[place]]) for place in range(len(shown))]
            ordered = [pair for part in parts for pair in _words(part)]
        tokens = sum(self._counted(text) for _, text in ordered)
        kinds = tuple(name for name in PER_TOKEN if name in parts[0])
        return Look(tuple(ordered), tuple(map(_media_inputs, parts)), tokens, kinds)

    def token_kinds(self, ids: Sequence[int]) -> list[int]:
        """0 for text, 1 for pictures, 2 for clips, as the processor counts."""
        return [int(kind) for kind in self._processor.create_mm_token_type_ids([list(ids)])[0]]

    def _counted(self, text: str) -> int:
        return sum(i in self._placeholders for i in self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _processed(self, shown: list[Any]) -> Mapping[str, Any]:
        options: dict[str, Any] = {"return_tensors": "pt", "return_text_replacement_offsets": True}
        try:
            if not isinstance(shown[0], Clip):
                text = self._processor.image_token * len(shown)
                return self._checked(self._processor(text=[text], images=[shown], **options))
            if self.video_token is None:
                raise EncodingError(f"{self.family} takes no clips")
            clip = self._long_enough(shown[0])
            options["videos_kwargs"] = {
                "do_sample_frames": False,
                "video_metadata": [clip.metadata],
                "return_metadata": True,
                "input_data_format": "channels_last",  # a clip 3 pixels high would be taken for one of 3 channels
            }
            return self._checked(self._processor(text=[self.video_token], videos=[clip.frames], **options))
        except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, EncodingError):
                raise
            raise EncodingError(f"the processor refuses the prompt: {first_line(error)}") from None

    def _long_enough(self, clip: Clip) -> Clip:
        """A clip of fewer frames than go into one token is held still: Qwen3-VL refuses it, Qwen2-VL does the same."""
        least = getattr(self._processor.video_processor, "temporal_patch_size", None) or 1
        if not 0 < len(clip) < least:
            return clip
        held = np.minimum(np.arange(least), len(clip) - 1)
        return clip.with_(frames=clip.frames[held], times=clip.times[held], indices=clip.indices[held])

    def _checked(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        if not raw.get("text_replacement_offsets"):
            raise EncodingError(f"the processor of {self.family} does not say what it writes for a picture or clip")
        return raw


def joined(media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Media tensors of several prompts one after the other; axes that differ in length are padded with zeros.

    Families that give a prompt a row of pictures (Idefics) or a picture a row of tiles (LLaVA-OneVision) mean zeros
    by "no picture here".
    """
    made = {}
    for name in dict.fromkeys(name for tensors in media for name in tensors):
        tensors = [part[name] for part in media if name in part]
        widths = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
        if name == "pixel_values_videos" and any(list(tensor.shape[1:]) != widths for tensor in tensors):
            raise EncodingError("clips of unequal length cannot be stacked in this family")
        made[name] = cat([_widened(tensor, widths) for tensor in tensors])
    return made


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _in_order(parts: Sequence[Mapping[str, Any]], places: Sequence[int]) -> list[tuple[str, str]]:
    pairs = [pair for part in parts for pair in _words(part)]
    return [pair for _, pair in sorted(zip(places, pairs, strict=True))]


def _words(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((found["text"], found["replacement"]) for found in raw["text_replacement_offsets"][0])


def _media_inputs(raw: Mapping[str, Any]) -> dict[str, Tensor]:
    apart = ("input_ids", "attention_mask", *PER_TOKEN)
    return {name: value for name, value in raw.items() if isinstance(value, Tensor) and name not in apart}


def _widened(tensor: Tensor, widths: Sequence[int]) -> Tensor:
    missing = [width - size for width, size in zip(widths, tensor.shape[1:], strict=True)]
    if not any(missing):
        return tensor
    return F.pad(tensor, [pad for amount in reversed(missing) for pad in (0, amount)])
