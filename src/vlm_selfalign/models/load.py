"""From a path to a model that can answer: weights, processor, adapter and an identity, or one line that says why not.

::

    loaded = load(ModelSettings(path="embedded"))
    loaded.model, loaded.processor, loaded.tokenizer, loaded.identity

A path is ``embedded`` (ships with the package), ``smollm2`` (fetched once), ``grafted`` (ships, and grows on that
one), a folder, or a hub id. A folder holds full
weights, or a PEFT adapter whose base is named in its ``version.json`` (``{"base": path or id}``) or else in its
``adapter_config.json``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.utils import logging as transformers_logging

from vlm_selfalign.config import MediaSettings, ModelSettings
from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.models.grafted import found_grafted
from vlm_selfalign.models.identity import cache_folder, check_card, identity_of
from vlm_selfalign.models.wheels import WHEELS, found_wheel

EMBEDDED = Path(__file__).parent / "embedded"
SMALL = 20_000_000
_FROM_HUB = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken"]


@dataclass
class Loaded:
    """A model ready to answer, and what belongs to it."""

    model: Any
    """transformers' own class, or PEFT's wrapper of it; in eval mode on its device."""
    processor: Any
    """Pictures and text to tensors; the tokenizer itself for a text-only model."""
    tokenizer: Any
    identity: str
    """Changes whenever an answer could: content of the files, precision, device type, versions; never the path."""
    is_vision: bool
    folder: Path
    """Where the weights (or the adapter) lie."""
    base: Path | None = None
    """Where an adapter's base lies; None for full weights."""
    media: MediaSettings = field(default_factory=MediaSettings)
    """What it is shown of pictures and clips."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device


def load(settings: ModelSettings, trainable: bool = False) -> Loaded:
    """Load what ``settings`` names; ``trainable`` leaves an adapter open for training.

    Raises ``UserError`` with one line: no such folder or model, no safetensors, no chat template, not a model that
    writes text, incomplete weights, 4-bit without bitsandbytes or without a GPU.
    """
    folder = find(settings.path, settings.revision)
    base = _base_of(folder)
    source = base or folder
    config = _config(source, settings)
    is_vision = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or _remote(config, "AutoModelForImageTextToText")
    if not (is_vision or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or _remote(config, "AutoModelForCausalLM")):
        raise UserError(f"model.path={settings.path}: a '{config.model_type}' does not write text in reply to a prompt")
    _check_weights(source, settings.path)
    processor, tokenizer = _processor(folder, source, is_vision, settings)
    auto = AutoModelForImageTextToText if is_vision else AutoModelForCausalLM
    model = _model(auto, source, settings)
    if base:
        model = _adapted(model, folder, settings.path, trainable)
    _set_threads(model, settings.threads)
    identity = identity_of([folder, *([base] if base else [])], _changes_numbers(settings, model))
    return Loaded(model.eval(), processor, tokenizer, identity, is_vision, folder, base, settings.media)


def quiet() -> None:
    """Turn off transformers' own progress bars: a run shows its own."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def find(path: str, revision: str | None = None) -> Path:
    """The folder that a path, hub id or ``embedded`` means; a hub id is downloaded (safetensors only)."""
    if path == "embedded":
        if not (EMBEDDED / "config.json").is_file():
            raise UserError("model.path=embedded: this installation lacks the embedded model; name a folder or hub id")
        check_card(EMBEDDED)
        return EMBEDDED
    if path.startswith("tiny:"):
        return _tiny(path)
    if path == "grafted":
        return found_grafted()
    if path in WHEELS:
        return found_wheel(path)
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise UserError(f"model.path={path}: not a model folder (no config.json or adapter_config.json in it)")
        return folder
    if folder.is_file():
        raise UserError(f"model.path={path}: a file; name the folder that holds config.json and the weights")
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise UserError(f"model.path={path}: no such folder")
    return _download(path, revision)


def _tiny(path: str) -> Path:
    """``tiny:FAMILY``: random weights of a family, built once into the cache."""
    from vlm_selfalign.models.tiny import FAMILIES, build

    family = path.partition(":")[2]
    if family not in FAMILIES:
        raise UserError(f"model.path={path}: no tiny family '{family}'{nearest(family, FAMILIES)}")
    folder = cache_folder() / "tiny" / f"{family}-{version('vlm-selfalign')}-{version('transformers')}"
    if not (folder / "config.json").is_file():
        draft = folder.with_name(f"{folder.name}.{os.getpid()}")
        build(family, draft)
        with contextlib.suppress(OSError):  # another process was faster: the bytes are the same
            draft.rename(folder)
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def pick_device(wanted: str) -> torch.device:
    """``auto`` is CUDA, else Apple's GPU, else the CPU."""
    if wanted != "auto":
        try:
            return torch.device(wanted)
        except RuntimeError:
            raise UserError(f"model.device={wanted}: no such device; try auto, cpu, cuda or mps") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _download(path: str, revision: str | None) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(path, revision=revision, allow_patterns=_FROM_HUB))
    except (OSError, ValueError) as error:  # hub errors are OSErrors, a malformed id is a ValueError
        raise UserError(f"model.path={path}: no such folder, and not to be had from the hub ({_line(error)})") from None


def _base_of(folder: Path) -> Path | None:
    if not (folder / "adapter_config.json").is_file():
        return None
    named = _json(folder / "version.json").get("base")
    named = named or _json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not named:
        raise UserError(f"model.path={folder}: an adapter that names no base (version.json lacks 'base')")
    base = find(str(folder / named) if (folder / named).is_dir() else named)
    if (base / "adapter_config.json").is_file():
        raise UserError(f"model.path={folder}: its base {base} is itself an adapter; merge that one first")
    return base


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def _config(folder: Path, settings: ModelSettings) -> Any:
    try:
        # trust_remote_code is always passed: left out, transformers asks on the terminal and a job hangs
        return AutoConfig.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"model.path={settings.path}: config.json cannot be used ({_line(error)})") from None


def _remote(config: Any, auto: str) -> bool:
    return auto in (getattr(config, "auto_map", None) or {})


def _check_weights(folder: Path, path: str) -> None:
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise UserError(f"model.path={path}: weights are not safetensors, and pickles can run code; convert them first")
    raise UserError(f"model.path={path}: no weights (*.safetensors) in {folder}")


def _processor(folder: Path, base: Path, is_vision: bool, settings: ModelSettings) -> tuple[Any, Any]:
    # a trained version may carry its own processor; a bare adapter takes its base's
    source = folder if (folder / "tokenizer_config.json").is_file() else base
    auto = AutoProcessor if is_vision else AutoTokenizer
    try:
        processor = auto.from_pretrained(source, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"model.path={settings.path}: its processor cannot be loaded ({_line(error)})") from None
    tokenizer = getattr(processor, "tokenizer", processor)
    if is_vision and not hasattr(processor, "image_processor"):
        raise UserError(f"model.path={settings.path}: takes images but has no image processor in {source}")
    if not (getattr(processor, "chat_template", None) or tokenizer.chat_template):
        raise UserError(f"model.path={settings.path}: no chat template; add chat_template.jinja, or take a chat model")
    if not tokenizer.is_fast:
        raise UserError(f"model.path={settings.path}: has only a slow tokenizer, which cannot map tokens to characters")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor, tokenizer


def _model(auto: Any, folder: Path, settings: ModelSettings) -> Any:
    device = pick_device(settings.device)
    extra: dict[str, Any] = {"attn_implementation": settings.attention} if settings.attention else {}
    if settings.quantize:
        extra |= {"quantization_config": _four_bit(settings, device), "device_map": {"": device}}
    if device.type == "meta":
        with torch.device("meta"):
            return auto.from_config(_config(folder, settings), trust_remote_code=settings.trust_remote_code)
    try:
        model, info = auto.from_pretrained(
            folder,
            dtype="auto" if settings.dtype == "auto" else getattr(torch, settings.dtype),
            trust_remote_code=settings.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **extra,
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model.path={settings.path}: cannot be loaded ({_line(error)})") from None
    if info["missing_keys"]:
        # transformers would fill these with random numbers and a warning
        missing = sorted(info["missing_keys"])
        raise UserError(f"model.path={settings.path}: weights lack {len(missing)} tensors, the first is {missing[0]}")
    return model if settings.quantize else model.to(device)


def _set_threads(model: Any, wanted: int | None) -> None:
    if model.device.type == "cpu" and (wanted or sum(p.numel() for p in model.parameters()) < SMALL):
        torch.set_num_threads(wanted or 1)


def _four_bit(settings: ModelSettings, device: torch.device) -> BitsAndBytesConfig:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("model.quantize=4bit needs bitsandbytes: pip install 'vlm-selfalign[quantized]'")
    if device.type != "cuda":
        raise UserError(f"model.quantize=4bit needs a CUDA GPU, the device is {device.type}; set model.quantize=null")
    compute = torch.bfloat16 if settings.dtype == "auto" else getattr(torch, settings.dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _adapted(model: Any, folder: Path, path: str, trainable: bool) -> Any:
    from peft import PeftModel

    from vlm_selfalign.models.answer_adapters import attach

    if not (folder / "adapter_model.safetensors").is_file():
        raise UserError(f"model.path={path}: the adapter has no adapter_model.safetensors")
    try:
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model.path={path}: the adapter does not fit its base ({_line(error)})") from None
    if getattr(adapted.peft_config["default"], "alora_invocation_tokens", None):
        attach(adapted)
    return adapted


def _changes_numbers(settings: ModelSettings, model: Any) -> dict[str, Any]:
    shown = settings.media.model_dump(exclude={"cache_mb"})
    chosen = {"quantize": settings.quantize, "attention": settings.attention, "media": shown}
    return chosen | {"dtype": str(model.dtype), "device": model.device.type}


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
