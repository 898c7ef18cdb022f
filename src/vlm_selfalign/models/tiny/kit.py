"""What a tiny checkpoint is made of, and the sizes all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from vlm_selfalign.models.tiny.words import id_of

LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
"""Width and depth of a vision tower."""


def language(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Width and depth of a language model that knows these words; the families that want ``head_dim`` get 8."""
    sizes = {"num_key_value_heads": 2, "max_position_embeddings": 4096, "vocab_size": len(words)}
    # unset, some families fall back on the ids of their real vocabulary
    return LAYERS | sizes | {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}


@dataclass(frozen=True)
class Kit:
    """A model's configuration, the processor (text-only families: the tokenizer), and its generation settings."""

    config: Any
    processor: Any
    ends: tuple[str, ...]
    """Tokens that end an answer, the one the chat template writes first."""
    media: tuple[str, ...] = ()
    """Tokens that stand for or wrap pictures; generation never writes them (random weights otherwise would)."""

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer, or the tokenizer itself."""
        return getattr(self.processor, "tokenizer", self.processor)

    def ids(self, tokens: tuple[str, ...]) -> list[int]:
        """Token ids."""
        return [id_of(self.tokenizer, token) for token in tokens]
