"""The tokenizer (every byte, and the world's words whole), the processor and its chat template."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

from vlm_selfalign.data.world.language import FORMS, PLURALS
from vlm_selfalign.data.world.questions import COLOUR, COUNT, DESCRIBE, EXISTENCE
from vlm_selfalign.data.world.settings import COLOURS, KINDS

PAD, END = "<|endoftext|>", "<|im_end|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, END, SYSTEM, USER, ASSISTANT, VISION_START, VISION_END, IMAGE, VIDEO)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message.role + '|>' -}}
{%- if message.content is string -%}{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif part.type == 'text' -%}{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if message.role == 'assistant' -%}{{- '<|im_end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
"""A role's token opens its turn; only the assistant's turn needs an end, since only the assistant is sampled."""


def words() -> list[str]:
    """Every word of the world as it stands in text, a leading space included, byte characters as ``Ġ``."""
    kinds = [" " + kind for kind in KINDS] + [" " + PLURALS.get(kind, kind + "s") for kind in KINDS]
    colours = [space + colour for colour in COLOURS for space in (" ", "")]
    carriers = [re.sub(r"\{\w+\}", "it", form.template) for form in FORMS.values()]
    carriers += [" " + carrier for carrier in carriers]  # as a text's first sentence, and as a later one
    carriers += [re.sub(r"\{\w+\}", "it", text) for text in (DESCRIBE, *EXISTENCE, COLOUR, COUNT)]
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = {word for text in ["Yes", "No", *kinds, *colours, *carriers] for word, _ in split.pre_tokenize_str(text)}
    return sorted(word for word in found if len(word) > 1)


def tokenizer(known: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """Byte-level and lossless: a known word is one token, anything else its bytes, nothing is ever unknown.

    ``known``: the words (None: those of the plain world), a space before one as ``Ġ``.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = words() if known is None else known
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet, *whole])}
    # No merges: with ignore_merges a word that is in the vocabulary is taken whole, others fall into bytes.
    fast = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, END)],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )


def processor(side: int, patch: int, merge: int, known: Sequence[str] | None = None) -> Qwen2VLProcessor:
    """The processor: pictures of about ``side`` by ``side`` pixels, the chat template, the tokenizer."""
    grey = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    pixels = {"shortest_edge": side * side, "longest_edge": side * side}
    shape = {"size": pixels, "patch_size": patch, "merge_size": merge, "temporal_patch_size": 2, **grey}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape),
        tokenizer=tokenizer(known),
        video_processor=Qwen2VLVideoProcessor(**shape, do_sample_frames=False, cap_pixels_per_frame=True),
        chat_template=CHAT_TEMPLATE,
    )
