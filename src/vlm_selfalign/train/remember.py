"""The reference's log-probs, computed once before training and kept: every epoch after that has it for nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.train.alarms import is_mismatch, mismatched
from vlm_selfalign.train.callbacks import Progress
from vlm_selfalign.train.engine.forward import output_layer
from vlm_selfalign.train.engine.head import score_hidden
from vlm_selfalign.train.engine.reference import Opinion, ReferenceStore
from vlm_selfalign.train.portions import side_by_side
from vlm_selfalign.train.score import score_tokens
from vlm_selfalign.train.texts import Text
from vlm_selfalign.train.trl import FitTrainer

Found = tuple[int, dict[str, list[float]]]


def remember_reference(
    trainer: FitTrainer, batch_size: int, progress: Progress | None = None, store: ReferenceStore | None = None
) -> None:
    """Score every item once under the reference and keep the log-probs: ``collator.reference[place][text]``.

    Processes share the items; each then knows all of them. What ``store`` knows already is not asked again; with an
    engine it also keeps the hidden states that a loss with a KL wants, and the reference itself can go. At most
    ``batch_size`` rows go through the reference at once, fewer where the trainer's budget of tokens or memory says so.
    """
    collator, accelerator = trainer.collator, trainer.accelerator
    store = store or ReferenceStore(None, "this fit")
    # Rows of one picture side by side, so that a tree holds them together; always in the same order, so that a
    # reference that was interrupted is asked in the same batches and gives the same bits
    rows = side_by_side(collator.items, range(len(collator.items)))[
        accelerator.process_index :: accelerator.num_processes
    ]
    budget = dataclasses.replace(trainer.budget, rows=batch_size)
    found: list[Found] = []
    with trainer.learner.reference() as reference:
        reference.to(accelerator.device)
        trainer.reference_head = output_layer(reference)
        for portion in budget.portions(collator.items, rows):
            found += _in_parts(trainer, reference, portion, store)
            if progress:
                progress("reference", len(found), len(rows), {})
    everyone = gather_object(found) if accelerator.num_processes > 1 else found
    known = {place: {name: torch.tensor(v) for name, v in texts.items()} for place, texts in everyone}
    collator.reference.update(known)
    if trainer.engine is not None and (store.folder or accelerator.num_processes == 1):
        collator.opinions.append(store)


def _in_parts(trainer: FitTrainer, reference: Any, places: list[int], store: ReferenceStore) -> list[Found]:
    """Rows at once, or in halves where memory is short or one does not fit its pictures, which ``UserError`` names."""
    alone = trainer.collator.items[places[0]].row.id if len(places) == 1 else None
    try:
        return _reference_logps(trainer, reference, places, store)
    except torch.OutOfMemoryError:
        if alone:
            raise UserError(f"row {alone}: out of memory under the reference; lower model.media.max_pixels") from None
    except (ValueError, RuntimeError) as error:
        if alone and is_mismatch(error):
            raise mismatched(error, [alone]) from None
        if alone or not is_mismatch(error):
            raise
    torch.cuda.empty_cache()
    half = len(places) // 2
    parts = places[:half], places[half:]
    return [found for part in parts for found in _in_parts(trainer, reference, part, store)]


def _reference_logps(trainer: FitTrainer, reference: Any, places: Sequence[int], store: ReferenceStore) -> list[Found]:
    names, items = trainer.loss.texts, [trainer.collator.items[place] for place in places]
    texts_N = [item.texts[name] for name in names for item in items]
    wants = (
        [text.known_by in trainer.collator.kl_wanted for text in texts_N] if trainer.engine else [False] * len(texts_N)
    )
    known = [store.find(text, hidden) for text, hidden in zip(texts_N, wants, strict=True)]
    if any(opinion is None for opinion in known):  # a batch is kept whole or not at all
        known = _asked(trainer, reference, texts_N, wants)
        store.keep(list(zip(texts_N, known, strict=True)))
    rows = [opinion.logp_S.tolist() for opinion in known if opinion is not None]
    return [
        (place, {name: rows[at * len(items) + i] for at, name in enumerate(names)}) for i, place in enumerate(places)
    ]


def _asked(trainer: FitTrainer, reference: Any, texts_N: Sequence[Text], wants: Sequence[bool]) -> list[Opinion]:
    """What the reference thinks of texts, with hidden states of those that want them."""
    batch: Any = trainer._prepare_inputs(trainer.collator.marked(texts_N))
    mask_NT = batch["answer"][:, 1:].cpu()
    counts = mask_NT.sum(1).tolist()
    with trainer.accelerator.autocast():
        if trainer.engine is None:
            logp_NT = score_tokens(reference, batch["inputs"], batch["answer"]).logp_NT.float().cpu()
            return [Opinion(logp[mask]) for logp, mask in zip(logp_NT, mask_NT, strict=True)]
        hidden_SD, next_S = trainer.engine.hidden(reference, batch["tree"])
        logp_S = score_hidden(output_layer(reference), hidden_SD, next_S).logp_M.float().cpu()
    pieces = zip(logp_S.split(counts), hidden_SD.cpu().split(counts), wants, strict=True)
    return [Opinion(logp.clone(), states.clone() if want else None) for logp, states, want in pieces]
