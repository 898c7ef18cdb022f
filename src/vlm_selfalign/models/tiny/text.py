"""Llama 3, Qwen2 and Qwen3 without eyes: for ``AutoTokenizer`` and ``AutoModelForCausalLM``."""

from __future__ import annotations

from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

from vlm_selfalign.models.tiny import chat
from vlm_selfalign.models.tiny.kit import Kit, language
from vlm_selfalign.models.tiny.words import tokenizer_with

_ENDS = ("<|im_end|>", "<|endoftext|>")


def llama() -> Kit:
    """Llama 3: a turn and a text end in two different tokens; the generation config names both."""
    ends = ("<|eot_id|>", "<|end_of_text|>")
    special = ["<|begin_of_text|>", *ends, "<|start_header_id|>", "<|end_header_id|>", "<pad>"]
    words = tokenizer_with(special, eos=ends[0], pad="<pad>", bos="<|begin_of_text|>", adds_bos=True)
    words.chat_template = chat.headers()
    return Kit(LlamaConfig(**language(words)), words, ends)


def qwen2() -> Kit:
    """Qwen2: opens with a default system turn."""
    words = _chatml(default_system=True)
    return Kit(Qwen2Config(tie_word_embeddings=True, **language(words)), words, _ENDS)


def qwen3() -> Kit:
    """Qwen3: normalised queries and keys, no default system turn."""
    words = _chatml(default_system=False)
    config = Qwen3Config(head_dim=8, tie_word_embeddings=True, **language(words))
    return Kit(config, words, _ENDS)


def _chatml(default_system: bool) -> PreTrainedTokenizerFast:
    words = tokenizer_with([_ENDS[1], "<|im_start|>", _ENDS[0]], eos=_ENDS[0], pad=_ENDS[1])
    words.chat_template = chat.chatml(default_system=default_system)
    return words
