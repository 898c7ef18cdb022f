"""Everything a user can set, as frozen records that refuse what they do not know.

A recipe (``data_recipes/``) says what to learn from and how; a config (``configs/``) what to run it on. Both are
YAML of the same tree, merged left to right; ``key.path=value`` overrides come last, then the ``smoke`` section of
the recipe when ``size=smoke``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class LoraSettings(Settings):
    """Low-rank adapters (PEFT)."""

    r: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["language", "all"] | tuple[str, ...] = "language"
    """Linear layers of the language model, of everything, or module names."""


class ModelSettings(Settings):
    """Which model answers and learns."""

    path: str = "embedded"
    """``embedded`` (ships with the package), a folder, or a hub id."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    quantize: Literal["4bit"] | None = None
    device: str = "auto"
    attention: str | None = None
    """transformers' ``attn_implementation``; None lets transformers choose."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Requests answered at once."""
    lora: LoraSettings | None = None
    """None trains full weights."""
    max_pixels: Annotated[int | None, Field(ge=1)] = None
    """Per picture, before the processor; None keeps the processor's own."""
    trust_remote_code: bool = False


class TrainingSettings(Settings):
    """What the machine allows while training; none of it changes what is learnt, but for rounding."""

    micro_batch: Annotated[int, Field(ge=1)] = 8
    """Rows per forward and process; gradients accumulate up to the fit's ``batch_size``."""
    processes: Annotated[int, Field(ge=1)] = 1
    """More than one starts the fit under ``accelerate launch``."""
    accelerate_config: str | None = None
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps between checkpoints to resume from; 0 saves at the end only."""
    report_to: tuple[str, ...] = ()


class Schedule(Settings):
    """How a fit learns; these keys stand beside the loss's own in a fit stage."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    epochs: Annotated[float, Field(gt=0)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 16
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps."""
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Annotated[int | None, Field(ge=1)] = None
    """Rows of more tokens are dropped with a reason, never cut; None takes the model's own limit."""
    freeze: tuple[str, ...] = ("vision", "embeddings")
    """Parts that do not learn under full fine-tuning."""


class SourceSettings(Settings):
    """Where samples come from."""

    source: str = "world"
    path: str | None = None
    limit: Annotated[int | None, Field(ge=1)] = None
    prompt: str = "Describe the image."
    settings: dict[str, Any] = Field(default_factory=dict)
    """The source's own settings."""
