"""One preference step, ours against TRL's, at equal loss and gradients.

    python benchmarks/preference_step.py --setting picture --reps 15 --out picture.json
    python benchmarks/preference_step.py --list

Both sides train the same random-weight Qwen2.5-VL on the same token ids: TRL's own ``DPOTrainer.training_step`` with
the prompt and picture in the batch twice, as its collator makes it, and our ``FitTrainer.training_step`` on a tree.
One process, one thread, repetitions interleaved, CPU seconds, medians with a bootstrap interval of each ratio; the
loss difference, gradient error, counted FLOPs and peak memory stand in every row. ``--out`` is read first and added to,
so a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import json
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText, GenerationConfig
from trl.trainer.dpo_trainer import DPOTrainer

from vlm_selfalign.config import ModelSettings, Schedule, TrainingSettings
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.media.image import image_media
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.load import quiet
from vlm_selfalign.models.tiny import qwen_vl
from vlm_selfalign.train.batch import Collator, prepare
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.policy import learner
from vlm_selfalign.train.remember import _asked, remember_reference
from vlm_selfalign.train.texts import Texts
from vlm_selfalign.train.trl import FitTrainer, arguments

WORDS = ("ball", "dog", "cat", "table", "red", "blue", "small", "house", "tree", "bird", "street", "green", "black")
TOKEN_SIDE = 14
"""Pixels of a visual token's side: 2 x 2 patches of 7."""


@dataclass(frozen=True)
class Setting:
    """What a step holds. ``pictures`` are shared evenly by the pairs."""

    visual: int = 1024
    chosen: int = 128
    rejected: int = 128
    pairs: int = 1
    pictures: int = 1
    vocabulary: int = 2048
    train: str = "lora"
    """``lora`` (on the language model), ``lora-vision`` (on both), ``full`` (all weights, vision too)."""
    common: int = 0
    """Words with which both answers begin."""


SETTINGS = {
    "picture": Setting(),
    "vocabulary-32k": Setting(vocabulary=32000),
    "256-tokens": Setting(visual=256, chosen=64, rejected=64, pairs=2, pictures=2),
    "common-words": Setting(common=64),
    "few-visual": Setting(visual=64, chosen=96, rejected=32, pairs=4, pictures=4),
    "full": Setting(visual=256, chosen=64, rejected=64, pairs=2, pictures=2, train="full"),
    "lora-vision": Setting(visual=256, chosen=64, rejected=64, pairs=2, pictures=2, train="lora-vision"),
    "8-pairs": Setting(chosen=64, rejected=64, pairs=8),
    "8-pairs-256": Setting(visual=256, chosen=64, rejected=64, pairs=8),
    "small": Setting(visual=256, chosen=32, rejected=32),
}

Step = Callable[[], tuple[float, dict[str, torch.Tensor]]]


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", default="picture", choices=SETTINGS)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--rows", nargs="*", help="only these rows")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        sys.exit("\n".join(f"{name}: {setting}" for name, setting in SETTINGS.items()))
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)  # TRL's and transformers' words on checkpointing
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        steps = made(SETTINGS[given.setting], Path(folder))
        steps = {name: step for name, step in steps.items() if not given.rows or name in given.rows}
        report = measured(steps, given.reps, given.out, given.setting)
    print(table(report))


def measured(steps: dict[str, Step], reps: int, out: Path | None, name: str) -> dict[str, Any]:
    """CPU seconds of each step, interleaved, and what one run of each gives and takes."""
    known = json.loads(out.read_text()) if out and out.is_file() else {}
    report = {"setting": name, **asdict(SETTINGS[name]), "rows": known.get("rows", {})}
    rows: dict[str, Any] = report["rows"]
    baseline = next(iter(steps))
    loss, wanted = steps[baseline]()
    for row, step in steps.items():
        if row not in rows:
            rows[row] = {"cpu_s": [], **compared(step, loss, wanted), "gflop": flops(step) / 1e9, "peak_mb": peak(step)}
    for rep in range(reps):
        for row, step in steps.items():
            if len(rows[row]["cpu_s"]) <= rep:
                started = time.process_time()
                step()
                rows[row]["cpu_s"].append(time.process_time() - started)
        if out:
            out.write_text(json.dumps(report, indent=1))
    return report


def made(setting: Setting, folder: Path) -> dict[str, Step]:
    """All rows' steps of one setting, the first TRL's default."""
    start = build(setting, folder / "model")
    items = pairs(setting, folder)
    steps: dict[str, Step] = {}
    for checkpointing in (True, False):
        for compact in (False, True):
            name = f"TRL{', checkpointing' if checkpointing else ''}{', compact head' if compact else ''}"
            steps[name] = theirs(setting, start, items, folder, checkpointing, compact)
    for checkpointing in (True, False):
        for warm in (False, True):
            name = f"ours{', checkpointing' if checkpointing else ''}{', caches warm' if warm else ''}"
            steps[name] = ours(setting, start, items, folder, checkpointing, warm)
    return steps


def ours(setting: Setting, start: str, items: list[Pair], folder: Path, checkpointing: bool, warm: bool) -> Step:
    """Our trainer's step; unless ``warm``, pictures are looked at and the reference is asked within it."""
    trainer = trainer_of(setting, start, items, folder, fast=True)
    model = _checkpointed(trainer.model, checkpointing, whole=False)
    if setting.train == "full":
        copy_as_reference(trainer)
    remember_reference(trainer, setting.pairs)
    batch = trainer.collator([{"item": place} for place in range(setting.pairs)])
    changed(model)
    texts = [item.texts[name] for name in trainer.loss.texts for item in trainer.collator.items]

    def step() -> tuple[float, dict[str, torch.Tensor]]:
        inputs = dict(batch)
        if not warm:
            trainer.engine.vision.forget()  # type: ignore[union-attr]
            with trainer.learner.reference() as reference:
                told = _asked(trainer, reference, texts, [False] * len(texts))
            known = torch.cat([opinion.logp_S for opinion in told])
            mask = batch["answer"][:, 1:]
            inputs["reference"] = torch.zeros(mask.shape).masked_scatter(mask, known)
        return stepped(trainer, model, inputs)

    return step


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
    reference = copy.deepcopy(model) if setting.train == "full" else None
    args = copy.deepcopy(source.args)
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=args,
        train_dataset=Dataset.from_list([row]),
        processing_class=source.learner.loaded.processor,
    )
    _checkpointed(trainer.model, checkpointing, whole=True)
    changed(trainer.model)

    def step() -> tuple[float, dict[str, torch.Tensor]]:
        with head_of_answers(compact):
            return stepped(trainer, trainer.model, dict(inputs))

    return step


def trainer_of(setting: Setting, start: str, items: list[Pair], folder: Path, fast: bool) -> FitTrainer:
    """Our trainer for TRL's sigmoid loss, on the tree or plain."""
    torch.manual_seed(0)
    lora = {"targets": "all" if setting.train == "lora-vision" else "language"} if "lora" in setting.train else None
    settings = ModelSettings.model_validate({"device": "cpu", "lora": lora})
    learns = learner(start, start, settings, (), needs_reference=fast and lora is None)
    if lora:
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


def stepped(trainer: Any, model: Any, inputs: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one ``training_step``; the gradients are cleared for the next."""
    trainer.current_gradient_accumulation_steps = 1
    model.train()
    loss = trainer.training_step(model, inputs)
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return float(loss), grads


def copy_as_reference(trainer: FitTrainer) -> None:
    """A frozen copy as it is now, before the policy moves away."""
    trainer.learner.frozen = copy.deepcopy(trainer.model).requires_grad_(False).eval()


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


# What is measured


def compared(step: Step, loss: float, wanted: dict[str, torch.Tensor]) -> dict[str, float]:
    """Loss difference and relative gradient distance; both sides must train the same parameters."""
    found, grads = step()
    assert grads.keys() == wanted.keys(), sorted(grads.keys() ^ wanted.keys())[:3]
    size = sum(float(g.double().square().sum()) for g in wanted.values()) ** 0.5
    apart = sum(float((grads[n].double() - g.double()).square().sum()) for n, g in wanted.items()) ** 0.5
    return {"loss_difference": abs(found - loss), "gradient_error": apart / size}


def flops(step: Step) -> int:
    """Floating point operations of matrix products and attention, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak(step: Step) -> float:
    """Peak of the resident memory above what is there before, in MB (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    step()
    return (_memory("VmHWM") - before) / 1024


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def ratio(slow: list[float], fast: list[float], draws: int = 2000) -> tuple[float, float, float]:
    """Ratio of medians and its 95 % bootstrap interval; a repetition is drawn whole, being measured side by side."""
    chance, count = random.Random(0), min(len(slow), len(fast))
    found = []
    for _ in range(draws):
        drawn = [chance.randrange(count) for _ in range(count)]
        found.append(statistics.median(slow[i] for i in drawn) / statistics.median(fast[i] for i in drawn))
    found.sort()
    middle = statistics.median(slow[:count]) / statistics.median(fast[:count])
    return middle, found[int(0.025 * draws)], found[int(0.975 * draws)]


def table(report: dict[str, Any]) -> str:
    """The report as Markdown; ratios against TRL's default and against the like row (same checkpointing)."""
    rows = report["rows"]
    lines = [
        f"## {report['setting']}",
        "| step | CPU s | against TRL's default | against TRL alike | GFLOP | peak MB | loss | gradient |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        alike = f"TRL{', checkpointing' if 'checkpointing' in name else ''}, compact head"
        cells = [name, f"{statistics.median(row['cpu_s']):.2f}"]
        for other in (next(iter(rows)), alike):
            cells.append(
                "{:.2f} ({:.2f}, {:.2f})".format(*ratio(rows[other]["cpu_s"], row["cpu_s"])) if other in rows else "-"
            )
        cells += [f"{row['gflop']:.0f}", f"{row['peak_mb']:.0f}", f"{row['loss_difference']:.1e}"]
        lines.append(f"| {' | '.join(cells)} | {row['gradient_error']:.1e} |")
    return "\n".join(lines)


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
    kit.processor.image_processor.size = {"shortest_edge": 28 * 28, "longest_edge": 2048 * 2048}
    kit.processor.save_pretrained(folder)
    return str(folder)


def pairs(setting: Setting, folder: Path) -> list[Pair]:
    """Random pictures, a question each, and answers of so many words, each a token."""
    chance = random.Random(0)
    side = round(setting.visual**0.5) * TOKEN_SIDE
    shown = []
    for n in range(setting.pictures):
        Image.effect_noise((side, side), 80).convert("RGB").save(folder / f"{n}.png")
        shown.append(image_media(str(folder / f"{n}.png")))

    def words(count: int) -> str:
        return "".join(f" {chance.choice(WORDS)}" for _ in range(count))

    made = []
    for n in range(setting.pairs):
        common = words(setting.common)
        prompt = Prompt.user(f"describe the picture :{words(3)}", shown[n % len(shown)])
        answers = [common + words(count - setting.common) for count in (setting.chosen, setting.rejected)]
        made.append(Pair(prompt=prompt, chosen=answers[0], rejected=answers[1], index=n))
    return made


if __name__ == "__main__":
    main()
