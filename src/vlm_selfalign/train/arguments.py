"""Our settings as TRL's arguments."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

from trl.trainer.dpo_config import DPOConfig

from vlm_selfalign.config import Schedule, TrainingSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.train.dpo_family import TrlLoss
from vlm_selfalign.train.scores import Loss


def arguments(
    loss: Loss, schedule: Schedule, training: TrainingSettings, rows: int, folder: Path, seed: int, on_cpu: bool
) -> DPOConfig:
    """TRL's arguments for our settings. Raises ``UserError`` when the batch cannot be split over the processes."""
    if schedule.batch_size % training.processes:
        raise UserError(
            f"batch_size={schedule.batch_size} cannot be split over training.processes={training.processes}"
        )
    share = schedule.batch_size // training.processes
    steps = math.ceil(math.ceil(rows / schedule.batch_size) * schedule.epochs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*checkpointing.*deprecated", category=FutureWarning)  # TRL reads it
        return DPOConfig(**_settings(loss, schedule, training, share, steps, folder, seed, on_cpu))


def _settings(
    loss: Loss,
    schedule: Schedule,
    training: TrainingSettings,
    share: int,
    steps: int,
    folder: Path,
    seed: int,
    on_cpu: bool,
) -> dict[str, Any]:
    scheduler = "constant_with_warmup" if schedule.scheduler == "constant" else schedule.scheduler
    return dict(
        output_dir=str(folder),
        per_device_train_batch_size=share,  # a whole step: how it goes through the model is the trainer's matter
        num_train_epochs=schedule.epochs,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type=scheduler,
        warmup_steps=math.ceil(steps * schedule.warmup),
        weight_decay=schedule.weight_decay,
        max_grad_norm=schedule.max_grad_norm,
        bf16=training.bf16,
        gradient_checkpointing=training.gradient_checkpointing,
        save_strategy="steps" if training.save_steps else "no",
        save_steps=training.save_steps or 500,
        logging_steps=1,
        logging_nan_inf_filter=False,  # True would log the mean of earlier losses in place of a NaN
        report_to=list(training.report_to) or "none",
        seed=seed,
        data_seed=seed,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        disable_tqdm=True,
        max_length=None,
        router_aux_loss_coef=0.0,
        **(_loss_arguments(loss) if isinstance(loss, TrlLoss) else {}),
    )


def _loss_arguments(loss: TrlLoss) -> dict[str, Any]:
    return {
        "loss_type": list(loss.types),
        "loss_weights": list(loss.weights),
        "beta": loss.beta,
        "label_smoothing": loss.label_smoothing,
        "f_divergence_type": loss.f_divergence,
        "f_alpha_divergence_coef": loss.f_alpha,
        "discopop_tau": loss.discopop_tau,
    }
