"""The reference's log-probs, computed once before training and kept: every epoch after that has it for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object

from vlm_selfalign.train.callbacks import Progress
from vlm_selfalign.train.score import score_tokens
from vlm_selfalign.train.trl import FitTrainer

Found = tuple[int, dict[str, list[float]]]


def remember_reference(trainer: FitTrainer, batch_size: int, progress: Progress | None = None) -> None:
    """Score every item once under the reference and keep the log-probs: ``collator.reference[place][text]``.

    Processes share the items; each then knows all of them.
    """
    collator, accelerator = trainer.collator, trainer.accelerator
    mine = range(accelerator.process_index, len(collator.items), accelerator.num_processes)
    found: list[Found] = []
    with trainer.learner.reference() as reference:
        reference.to(accelerator.device)
        for start in range(0, len(mine), batch_size):
            found += _reference_logps(trainer, reference, mine[start : start + batch_size])
            if progress:
                progress("reference", len(found), len(mine), {})
    everyone = gather_object(found) if accelerator.num_processes > 1 else found
    known = {place: {name: torch.tensor(v) for name, v in texts.items()} for place, texts in everyone}
    collator.reference.update(known)


def _reference_logps(trainer: FitTrainer, reference: Any, places: Sequence[int]) -> list[Found]:
    names, items = trainer.loss.texts, [trainer.collator.items[place] for place in places]
    texts_N = [item.texts[name] for name in names for item in items]
    batch: Any = trainer._prepare_inputs(trainer.collator.marked(texts_N))
    with trainer.accelerator.autocast():
        logp_NT = score_tokens(reference, batch["inputs"], batch["answer"]).logp_NT.float().cpu()
    mask_NT = batch["answer"][:, 1:].cpu()
    rows = [logp[mask].tolist() for logp, mask in zip(logp_NT, mask_NT, strict=True)]
    return [
        (place, {name: rows[at * len(items) + i] for at, name in enumerate(names)}) for i, place in enumerate(places)
    ]
