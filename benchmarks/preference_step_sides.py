"""Both sides of ``preference_step.py``: TRL's trainer and ours on one model and the same rows."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, GenerationConfig, PrinterCallback, set_seed
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from vlm_selfalign.config import ModelSettings, Schedule, TrainingSettings
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.media.image import image_media
from vlm_selfalign.media.video import video_media
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.tiny import qwen_vl
from vlm_selfalign.train.batch import Collator, prepare
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.fit import FitSpec, fit
from vlm_selfalign.train.order import StepOrder
from vlm_selfalign.train.policy import Learner, learner
from vlm_selfalign.train.remember import _asked, remember_reference
from vlm_selfalign.train.texts import Texts
from vlm_selfalign.train.trl import FitTrainer, arguments

WORDS = ("ball", "dog", "cat", "table", "red", "blue", "small", "house", "tree", "man", "street", "green", "black")
"""Each a token."""
TOKEN_SIDE = 14
"""Pixels of a visual token's side: 2 x 2 patches of 7."""
FRAMES = 8
"""Of a clip; two make one layer of visual tokens."""
RATE = 1e-4


@dataclass(frozen=True)
class Setting:
    """What a step holds. ``pictures`` are shared evenly by the pairs."""

    visual: int = 1024
    chosen: int = 128
    rejected: int = 128
    """Tokens of an answer, the one that ends it included."""
    pairs: int = 1
    pictures: int = 1
    vocabulary: int = 2048
    train: str = "lora"
    """``lora`` (on the language model), ``lora-vision`` (on both), ``full`` (all weights, vision too)."""
    common: int = 0
    """Words with which both answers begin."""
    clip: bool = False
    """Clips in the place of pictures, of the same number of visual tokens."""


Result = tuple[float, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Step:
    """One optimizer step's loss and gradients; ``before`` is what belongs to it unless caches are warm."""

    learn: Callable[[], Result]
    before: Callable[[], None] = lambda: None

    def __call__(self) -> Result:
        """The whole step."""
        self.before()
        return self.learn()


def ours(setting: Setting, start: str, items: list[Pair], folder: Path, checkpointing: bool, warm: bool) -> Step:
    """Our trainer's step; unless ``warm``, pictures are looked at and the reference is asked within it."""
    trainer = trainer_of(setting, start, items, folder, fast=True)
    model = _checkpointed(trainer.model, checkpointing, whole=False)
    remember_reference(trainer, setting.pairs)
    batch = trainer.collator([{"item": place} for place in range(setting.pairs)])
    changed(model)
    texts = [item.texts[name] for name in trainer.loss.texts for item in trainer.collator.items]

    def forget_and_ask() -> None:
        trainer.engine.vision.forget()  # type: ignore[union-attr]
        with trainer.learner.reference() as reference:
            told = _asked(trainer, reference, texts, [False] * len(texts))
        mask = batch["answer"][:, 1:]
        known = torch.cat([opinion.logp_S for opinion in told])
        batch["reference"] = torch.zeros(mask.shape).masked_scatter(mask, known)

    learn = lambda: stepped(trainer, model, dict(batch))  # noqa: E731
    return Step(learn) if warm else Step(learn, forget_and_ask)


def theirs(setting: Setting, start: str, items: list[Pair], folder: Path, checkpointing: bool, compact: bool) -> Step:
    """TRL's trainer on the same texts; ``compact`` scores answer rows only, which by itself it does on GPUs alone."""
    source = trainer_of(setting, start, items, folder, fast=False)
    texts = [item.texts[name] for name in source.loss.texts for item in source.collator.items]
    batch = source.collator.plain(texts)
    inputs = {**batch["inputs"], "completion_mask": batch["answer"].long()}
    model = source.learner.model
    model.__dict__.pop("forward", None)
    turn = {role: [{"role": role, "content": "a"}] for role in ("user", "assistant")}
    row = {"prompt": turn["user"], "chosen": turn["assistant"], "rejected": turn["assistant"], "images": []}
    trainer = DPOTrainer(
        model=model,
        ref_model=copy.deepcopy(model) if setting.train == "full" else None,
        args=copy.deepcopy(source.args),
        train_dataset=Dataset.from_list([row]),
        processing_class=source.learner.loaded.processor,
    )
    _checkpointed(trainer.model, checkpointing, whole=True)
    changed(trainer.model)

    def learn() -> Result:
        with head_of_answers(compact):
            return stepped(trainer, trainer.model, dict(inputs))

    return Step(learn)


def trainer_of(setting: Setting, start: str, items: list[Pair], folder: Path, fast: bool) -> FitTrainer:
    """Our trainer for TRL's sigmoid loss, on the tree or plain."""
    learns = _learner(setting, start, needs_reference=fast and setting.train == "full")
    if setting.train != "full":
        learns.against = "off"
    loss = resolve("loss", "dpo")()
    maker = Texts(Encoder.of(learns.loaded))
    rows, dropped = prepare(items, loss, maker, None)
    assert not dropped.rows, dropped.counts
    planner = Planner(learns.model, maker) if fast else None
    schedule = Schedule(batch_size=setting.pairs)
    args = arguments(loss, schedule, TrainingSettings(micro_batch=setting.pairs), len(rows), folder, 0, on_cpu=True)
    collator = Collator(rows, loss, maker, planner)
    trainer = FitTrainer(learns, collator, args, Engine(Vision()) if fast else None)
    learns.same_start = False
    trainer._step_items = float(setting.pairs)
    return trainer


def stepped(trainer: Any, model: Any, inputs: dict[str, Any]) -> Result:
    """Loss and gradients of one ``training_step``; the gradients are cleared for the next."""
    trainer.current_gradient_accumulation_steps = 1
    model.train()
    loss = trainer.training_step(model, inputs)
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return float(loss), grads


def changed(model: Any) -> None:
    """The policy has learnt something: with B at zero it would be the reference and half the step untested."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn_like(p))


@contextmanager
def head_of_answers(compact: bool) -> Iterator[None]:
    """Let TRL's output layer see answer rows only, as it does on a GPU."""
    before = trl_utils._use_triton  # type: ignore[attr-defined]
    if compact:
        trl_utils._use_triton = lambda device: True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        trl_utils._use_triton = before  # type: ignore[attr-defined]


def _checkpointed(model: Any, on: bool, whole: bool) -> Any:
    """``whole``: as TRL does it, with the hooks that make every embedding ask for a gradient."""
    if on:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if whole and hasattr(model, "peft_config"):
            model.enable_input_require_grads()
    return model


def _settings(setting: Setting) -> ModelSettings:
    lora = {"targets": "all" if setting.train == "lora-vision" else "language"} if "lora" in setting.train else None
    return ModelSettings.model_validate({"device": "cpu", "lora": lora})


def _learner(setting: Setting, start: str, needs_reference: bool) -> Learner:
    set_seed(0)
    return learner(start, start, _settings(setting), (), needs_reference)


# Whole runs


def our_run(setting: Setting, start: str, items: Sequence[Pair], epochs: int) -> float:
    """Mean loss of a fit, from rows on disk to a saved version, caches built within it."""
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder) / "rows.jsonl", Path(folder) / "out"
        rows.write_text("".join(row.model_dump_json() + "\n" for row in items))
        spec = FitSpec(
            start=start,
            rows=str(rows),
            out=str(out),
            loss="dpo",
            model=_settings(setting),
            schedule=Schedule(batch_size=1, epochs=epochs, learning_rate=RATE, scheduler="constant", warmup=0.0),
            training=TrainingSettings(micro_batch=1),
        )
        fit(spec)
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    return sum(losses) / len(losses)


def their_run(setting: Setting, start: str, items: Sequence[Pair], epochs: int) -> float:
    """The same with TRL's trainer, collator and defaults (checkpointing); the same adapter to begin with."""
    learns = _learner(setting, start, needs_reference=False)

    def turn(role: str, words: str) -> list[dict[str, str]]:
        return [{"role": role, "content": words}]

    rows = [
        {
            "prompt": turn("user", row.prompt.messages[-1].text),
            "chosen": turn("assistant", str(row.chosen)),
            "rejected": turn("assistant", str(row.rejected)),
            "images": [Image.open(media.uri).convert("RGB") for media in row.prompt.media],
        }
        for row in items
    ]
    with tempfile.TemporaryDirectory() as folder:
        args = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=1,
            num_train_epochs=epochs,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_length=None,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        )
        trainer = DPOTrainer(
            model=learns.model,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=learns.loaded.processor,
        )
        trainer.remove_callback(PrinterCallback)
        trainer._get_train_sampler = lambda *_: _OurOrder(len(rows))  # type: ignore[method-assign]
        trainer.train()
        trainer.save_model(folder)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return sum(losses) / len(losses)


class _OurOrder(StepOrder):
    """Rows one by one in the order in which our fit takes them."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows, 1, 0)

    def __iter__(self) -> Iterator[Any]:
        return (place for step in self.steps() for place in step)


# What is trained on what


def build(setting: Setting, folder: Path) -> str:
    """A Qwen2.5-VL of 8 layers of 256, vision and language in about the proportion of the 7B model."""
    kit = qwen_vl.qwen2_5_vl()
    text, eye = kit.config.text_config, kit.config.vision_config
    for name, value in {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "layer_types": ["full_attention"] * 8,
        "rope_parameters": {**text.rope_parameters, "mrope_section": [4, 6, 6]},
        "vocab_size": setting.vocabulary,
    }.items():
        setattr(text, name, value)
    for name, value in {"depth": 3, "hidden_size": 96, "intermediate_size": 288, "fullatt_block_indexes": [2]}.items():
        setattr(eye, name, value)
    eye.out_hidden_size, eye.window_size, eye.num_heads = 256, 56, 4
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(kit.config, dtype=torch.float32)
    model.generation_config = GenerationConfig(eos_token_id=kit.ids(kit.ends))
    model.save_pretrained(folder)
    for part in (kit.processor.image_processor, kit.processor.video_processor):
        part.size = {"shortest_edge": 28 * 28, "longest_edge": 2048 * 2048}
    kit.processor.save_pretrained(folder)
    return str(folder)


def pairs(setting: Setting, folder: Path) -> list[Pair]:
    """Random pictures or clips, a question each, and answers of so many tokens."""
    chance = random.Random(0)
    shown = [_shown(setting, folder, n) for n in range(setting.pictures)]

    def words(count: int) -> str:
        return "".join(f" {chance.choice(WORDS)}" for _ in range(count))

    made = []
    for n in range(setting.pairs):
        common = words(setting.common)
        prompt = Prompt.user(f"describe the picture :{words(3)}", shown[n % len(shown)])
        chosen, rejected = (common + words(n - setting.common - 1) for n in (setting.chosen, setting.rejected))
        made.append(Pair(prompt=prompt, chosen=chosen, rejected=rejected, index=n))
    return made


def _shown(setting: Setting, folder: Path, place: int) -> Media:
    layers = FRAMES // 2 if setting.clip else 1
    side = round((setting.visual / layers) ** 0.5) * TOKEN_SIDE
    if not setting.clip:
        path = folder / f"{place}.png"
        Image.effect_noise((side, side), 80).convert("RGB").save(path)
        return image_media(str(path))
    path = folder / f"{place}.mp4"
    noise = np.random.default_rng(place)
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for _ in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 255, (side, side, 3), dtype=np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return video_media(str(path))
