"""What happens beside the training loop: the log, progress, and checkpoints that can be trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.train import checkpoint

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with what goes on (``encode``, ``reference``, ``train``), how much is done, how much there is, and the step's
log."""

_NOT_LOGGED = {"num_tokens", "total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second"}
KEPT = 2
"""Checkpoints to keep: should the newest be damaged, there is one more."""


class Log(TrainerCallback):
    """One JSON line per optimizer step: every part of the loss, metrics, gradient norm, learning rate."""

    def __init__(self, path: Path, from_step: int, progress: Progress | None) -> None:
        self.path, self.progress = path, progress
        kept = [line for line in growing_lines(path) if line["step"] <= from_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Append the step; TRL's summary at the end of training has no loss and is left out."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        line = {"step": state.global_step, **{k: v for k, v in logs.items() if k not in _NOT_LOGGED}}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.progress:
            self.progress("train", state.global_step, state.max_steps, line)


class Seal(TrainerCallback):
    """Turns each checkpoint that transformers has written in place into a sealed ``step-N``, and keeps the newest."""

    def __init__(self, folder: Path, spec: str, together: Callable[[], None]) -> None:
        self.folder, self.spec, self.together = folder, spec, together

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """All processes have written their part when ``together`` returns."""
        self.together()
        if state.is_world_process_zero:
            draft = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (draft / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.seal(draft, self.folder / f"step-{state.global_step}", state.global_step, self.spec)
            for old in sorted(self.folder.glob("step-*"), key=lambda path: int(path.name[5:]))[:-KEPT]:
                shutil.rmtree(old)
        self.together()
