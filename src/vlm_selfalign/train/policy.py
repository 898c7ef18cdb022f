"""What learns, and what it is compared with.

Full weights learn beside a frozen copy; an adapter learns beside the same model with the adapter switched off, or
with the adapter it started from. The second is the reference only as long as nothing outside the adapter learns.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from vlm_selfalign.config import LoraSettings, ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.models import answer_adapters
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.families import lora_targets, parameters_of, unwrapped
from vlm_selfalign.models.load import Loaded, load

VERSION = "version.json"
REFERENCE = "reference"
"""Name of the frozen adapter that the learning one started from."""

Against = Literal["copy", "off", "adapter", "nothing"]


@dataclass
class Learner:
    """A model that learns and the reference it is measured against."""

    loaded: Loaded
    model: Any
    base: str | None
    """What the adapter stands on, as written into the version; None for full weights."""
    against: Against
    same_start: bool
    """Policy and reference are the same function before the first step."""
    frozen: Any = field(default=None, repr=False)
    compared: str = ""
    """Identity of a reference that is not the start; what was remembered of another one must not be used."""

    @contextlib.contextmanager
    def reference(self) -> Iterator[Any]:
        """The reference model, without gradient, for the length of the block."""
        with torch.no_grad():
            match self.against:
                case "copy":
                    yield self.frozen
                case "off":
                    with self.model.disable_adapter():
                        yield self.model
                case "adapter":
                    self.model.set_adapter(REFERENCE, inference_mode=True)
                    try:
                        yield self.model
                    finally:
                        self.model.set_adapter("default")
                case _:
                    raise RuntimeError("this loss said that it needs no reference")

    def forget_reference(self) -> None:
        """Let a frozen copy go once its log-probs are remembered."""
        if self.against == "copy":
            self.frozen, self.against = None, "nothing"

    def save(self, folder: Path, weights: dict[str, Any] | None = None) -> None:
        """The version: adapter or full weights as safetensors, and the processor; ``weights`` where the model's own
        are sharded.
        """
        given: dict[str, Any] = {} if weights is None else {"state_dict": weights}
        if isinstance(self.model, PeftModel):
            with answer_adapters.declared(self.model):
                self.model.save_pretrained(str(folder), selected_adapters=["default"], **given)
        else:
            self.model.save_pretrained(folder, **given)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        self.loaded.processor.save_pretrained(folder)


def learner(
    start: str, reference: str, settings: ModelSettings, freeze: Sequence[str], needs_reference: bool = True
) -> Learner:
    """Load the version ``start`` so that it can learn, and ``reference`` to measure it against.

    Raises ``UserError`` when nothing would learn, when adapters do not fit each other, or for any reason a model
    cannot be loaded.
    """
    loaded = load(settings.model_copy(update={"path": start}), trainable=settings.lora is not None)
    same = reference == start
    if settings.lora is None:
        found = _full(loaded, freeze)
    else:
        found = _adapter(loaded, start, settings.lora)
    found.same_start = same
    silence_dropout(found.model)
    if not needs_reference:
        return found
    if not same or found.against == "copy":
        _load_reference(found, reference, settings, same)
    _check_only_adapter_learns(found)
    return found


def _full(loaded: Loaded, freeze: Sequence[str]) -> Learner:
    if getattr(loaded.model, "is_loaded_in_4bit", False):
        raise UserError("model.quantize: full weights in 4 bits cannot learn; set model.lora")
    model = loaded.model.merge_and_unload() if isinstance(loaded.model, PeftModel) else loaded.model
    model.requires_grad_(True)
    for parameter in parameters_of(model, freeze):
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"freeze={list(freeze)}: nothing is left to learn")
    return Learner(loaded, model, None, "copy", True)


def _adapter(loaded: Loaded, start: str, settings: LoraSettings) -> Learner:
    if isinstance(loaded.model, PeftModel):
        _refuse_other_lora(loaded.model, settings, start)
        return _continued(loaded, start)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=lora_targets(loaded.model, settings.targets),
        task_type="CAUSAL_LM",
    )
    if getattr(loaded.model, "is_loaded_in_4bit", False):
        from peft import prepare_model_for_kbit_training

        loaded.model = prepare_model_for_kbit_training(loaded.model, use_gradient_checkpointing=False)
    model = get_peft_model(loaded.model, config)
    if settings.acts == "answers":
        answer_adapters.attach(model, _opening(loaded))  # type: ignore[arg-type]
    return Learner(loaded, model, _portable(start), "off", True)


def _continued(loaded: Loaded, start: str) -> Learner:
    # Every version stays one adapter on the same base: the one of the round before goes on learning,
    # and a frozen copy of it is the reference.
    model = loaded.model
    model.load_adapter(loaded.folder, REFERENCE, is_trainable=False)
    model.set_adapter("default")
    if answer_adapters.acts_on_answers(model):
        answer_adapters.attach(model)
    named = (
        json.loads((loaded.folder / VERSION).read_text()).get("base") if (loaded.folder / VERSION).is_file() else None
    )
    return Learner(loaded, model, named or _portable(str(loaded.base)), "adapter", True)


def _load_reference(found: Learner, reference: str, settings: ModelSettings, same: bool) -> None:
    if same:
        frozen = copy.deepcopy(found.model)
    else:
        loaded = load(settings.model_copy(update={"path": reference}))
        own_base = found.loaded.base or found.loaded.folder
        if settings.lora is not None and loaded.base is None and loaded.folder.resolve() == own_base.resolve():
            found.against = "off"
            return
        frozen, found.compared = loaded.model, loaded.identity
    found.frozen, found.against = frozen.requires_grad_(False).eval(), "copy"
    silence_dropout(found.frozen)


def _refuse_other_lora(model: PeftModel, settings: LoraSettings, start: str) -> None:
    config: Any = model.peft_config["default"]
    if (config.r, config.lora_alpha) != (settings.r, settings.alpha):
        raise UserError(
            f"model.lora: r={settings.r}, alpha={settings.alpha}, but {start} has r={config.r}, "
            f"alpha={config.lora_alpha}; an adapter keeps its shape over rounds"
        )
    acts = "answers" if answer_adapters.acts_on_answers(model) else "everywhere"
    if acts != settings.acts:
        raise UserError(f"model.lora.acts={settings.acts}, but the adapter of {start} learnt to act {acts}; set that")


def _opening(loaded: Loaded) -> tuple[int, ...]:
    """What the chat template writes where an answer begins, as tokens: the same whatever was asked."""
    encoder = Encoder.of(loaded)
    asked = [encoder.text(Prompt.user(words)) for words in ("a", "Is it so?", "Count: 1, 2.", "(the end)")]
    return answer_adapters.opening_of([loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked])


def _check_only_adapter_learns(found: Learner) -> None:
    if found.against not in ("off", "adapter"):
        return
    outside = [name for name, p in found.model.named_parameters() if p.requires_grad and ".default" not in name]
    if outside:
        raise UserError(f"{outside[0]} learns but is not part of the adapter, so the reference would drift; freeze it")


def silence_dropout(model: nn.Module) -> None:
    """No dropout anywhere: policy and reference must differ by what was learnt alone.

    Attention layers apply theirs by a number, not a module, so turning off ``nn.Dropout`` alone leaves it on.
    """
    for module in unwrapped(model).modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _portable(start: str) -> str:
    folder = Path(start).expanduser()
    return str(folder.resolve()) if folder.is_dir() else start
