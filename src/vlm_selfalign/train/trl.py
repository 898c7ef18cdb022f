"""The one adapter to TRL (1.16): its trainer, its losses and its metrics, on our batches, scores and losses.

Seams, each with a canary test. ``data_collator``: ours. ``compute_loss(model, inputs)``: TRL takes any callable as the
model and reads ``log_probs`` [2B, T-1] (zero where nothing is scored), ``entropy``, ``mean_logits`` and ``is_top1``
off its output; with ``precompute_ref_logps = True`` it reads summed ``ref_chosen_logps`` and ``ref_rejected_logps``
off the inputs. ``ref_model``: left out, TRL would reload one from the path in the config (in round 2 not what the
policy started from) or copy the adapter, so it is always given one that must never be called.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.models.families import parameters_of
from vlm_selfalign.train.alarms import check_finite, check_gradient, check_start, gradient_norm, is_mismatch, mismatched
from vlm_selfalign.train.arguments import arguments
from vlm_selfalign.train.batch import Collator
from vlm_selfalign.train.dpo_family import TrlLoss
from vlm_selfalign.train.engine.forward import Engine, output_layer
from vlm_selfalign.train.order import StepLoader, StepOrder
from vlm_selfalign.train.policy import Learner
from vlm_selfalign.train.portions import Budget, groups_of
from vlm_selfalign.train.score import answer_logits, score_tokens
from vlm_selfalign.train.scores import LossParts, Scores, TextScores

__all__ = ["Elsewhere", "FitTrainer", "arguments"]

logger = logging.getLogger(__name__)


class Elsewhere(nn.Module):
    """Stands where TRL expects a reference model; ours is in ``Learner`` and its log-probs are in the batch."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raises: TRL must never ask."""
        raise RuntimeError("TRL called the reference model, although its log-probs were given: the seam has moved")


class FitTrainer(DPOTrainer):
    """TRL's DPO trainer with our scores, our losses beside its own, and alarms.

    The trainer's batch is a whole optimizer step. Its loss is the sum over its rows (or tokens) divided by their number
    over all portions and processes, so neither changes what is learnt.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        learner: Learner,
        collator: Collator,
        args: DPOConfig,
        engine: Engine | None = None,
        budget: Budget | None = None,
        group: str = "none",
    ) -> None:
        self.learner, self.collator, self.loss = learner, collator, collator.loss
        self.engine = engine
        """None goes the plain way; otherwise the collator has a planner."""
        self.budget = budget or Budget(args.per_device_train_batch_size)
        self.reference_head: nn.Module | None = None
        """Turns the reference's remembered hidden states into its logits."""
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._step_items, self._step_rows = 1.0, []
        self._running = 0
        """Rows of the portion that goes through the model."""
        self.parts = 1
        """Into how many parts memory makes a portion fall."""
        stub = Elsewhere(learner.model.config)
        super().__init__(
            model=learner.model,
            ref_model=stub,  # type: ignore[arg-type]
            args=args,
            data_collator=collator,
            train_dataset=_listing(len(collator.items), learner.loaded.is_vision),
            processing_class=learner.loaded.processor,
        )
        if self.accelerator.unwrap_model(self.ref_model) is not stub:
            raise RuntimeError("TRL replaced the reference model it was given: the seam has moved")
        self.precompute_ref_logps = True
        self._keep_frozen_eyes_whole()
        groups = groups_of(collator.items) if group == "media" else None
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        batch_size = args.per_device_train_batch_size * processes
        self.order = StepOrder(len(collator.items), batch_size, args.data_seed or 0, groups, own, processes)
        self.remove_callback(PrinterCallback)  # the log goes to a file and to whoever shows progress

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        # Rows are tokenised already; without this TRL would tokenise text-only rows once more, its own way.
        return dataset

    def get_train_dataloader(self) -> StepLoader:
        """A step at a time, of which this process has its share; not for accelerate to share out once more."""
        return StepLoader(self.train_dataset, self.order)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], None]:
        """The rows of one optimizer step; counts what its loss is divided by."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        places = [place for batch in batches for place in batch["item"].tolist()]
        items = self._items(self.collator.counted(places)) if places else torch.zeros(())
        reduced: Any = self.accelerator.reduce(items.to(self.accelerator.device), "sum")
        self._step_items = float(reduced)
        self._step_rows = [self._row_id(place) for place in places]
        return batches, None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The micro-batch's share of the step's loss."""
        ids = [self._row_id(place) for place in inputs["item"].tolist()]
        scores = self.scores(model, inputs)
        parts = self._trl_parts(inputs, scores) if isinstance(self.loss, TrlLoss) else self._own_parts(inputs, scores)
        total = parts.total
        check_finite(total.detach(), scores, ids, self.state.global_step)
        if self.state.global_step == 0 and self.learner.same_start:
            theory = self.loss.at_start(inputs["columns"])
            if theory is not None:
                check_start(float(parts.parts["preference"].detach()), float(theory), exact=not self.args.bf16)
        if inputs.get("idle"):
            return total * 0.0
        share = float(self._items(inputs)) * self.accelerator.num_processes / self._step_items
        self._note(parts, share)
        return total * share

    def scores(self, model: Any, inputs: dict[str, Any]) -> Scores:
        """Per-token log-probs of every text under policy and, from memory, reference; the exact KL where asked."""
        rows, texts = len(inputs["item"]), self.loss.texts
        found = score_tokens(
            model,
            inputs["inputs"],
            inputs["answer"],
            kl_sequences=rows * len(self.loss.kl_texts),
            stats=isinstance(self.loss, TrlLoss),
            fast=self._fast(inputs.get("tree")),
            **self._for_kl(inputs),
        )
        mask, span = inputs["answer"][:, 1:], inputs["span"][:, 1:]
        made = {}
        for place, name in enumerate(texts):
            part = slice(place * rows, (place + 1) * rows)
            kl = found.kl_NT[part] if found.kl_NT is not None and name in self.loss.kl_texts else None
            stats = {key: value[part] for key, value in found.stats.items()}
            made[name, "policy"] = TextScores(found.logp_NT[part], mask[part], span[part], kl, stats)
            if "reference" in self.loss.roles:
                made[name, "reference"] = TextScores(inputs["reference"][part], mask[part], span[part])
        return made

    def _fast(self, tree: Any) -> tuple[Engine, Any] | None:
        return (self.engine, tree) if self.engine is not None else None

    def _for_kl(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The reference's side of the KL: what was remembered, or its forward."""
        if not self.loss.kl_texts:
            return {}
        if "kl_hidden" in inputs:
            return {"reference": (inputs["kl_hidden"], self.reference_head)}
        with self.learner.reference() as reference, self.accelerator.autocast():
            if self.engine is None:
                return {"reference_logits_MV": answer_logits(reference, inputs["kl_inputs"], inputs["kl_answer"])}
            return {"reference": (self.engine.hidden(reference, inputs["kl_tree"])[0], output_layer(reference))}

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Tensor:
        """A step's backward in as many portions as memory asks for, and a look at the gradient before it is used."""
        before = self._remembered()
        while True:
            try:
                loss = self._in_portions(model, inputs, *rest, **more)
                break
            except torch.OutOfMemoryError:
                # A backward that broke off leaves some gradients and not others, so the whole step begins again
                self._back_off()
            # only out here has the exception let go of the failed attempt's tensors
            model.zero_grad(set_to_none=True)
            self._as_remembered(before)
            torch.cuda.empty_cache()
        if not self.is_deepspeed_enabled:  # DeepSpeed holds gradients itself
            check_gradient(gradient_norm(self.model), self._step_rows, self.state.global_step)
        return loss

    def _in_portions(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Tensor:
        """Forward and backward of each portion; their losses add up to the step's, processes meet at the last one."""
        places = inputs["item"].tolist()
        portions = self._as_many_everywhere(self.budget.portions(self.collator.items, places, self.parts))
        losses = []
        for at, portion in enumerate(portions):
            last, self._running = at == len(portions) - 1, len(portion)
            self.accelerator.gradient_state._set_sync_gradients(last)
            try:
                collated = "inputs" in inputs and len(portions) == 1
                batch = inputs if collated else {**self.collator(_examples(portion or [0])), "idle": not portion}
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                    losses.append(super().training_step(model, batch, *rest, **more))
            except (ValueError, RuntimeError) as error:
                raise mismatched(error, [self._row_id(p) for p in portion]) if is_mismatch(error) else error from None
            self._weigh_metrics(len(portion))
        return torch.stack(losses).sum()

    def _as_many_everywhere(self, portions: list[list[int]]) -> list[list[int]]:
        # Processes meet in every forward of a sharded model, so those with fewer portions begin with idle ones
        most = len(portions)
        if self.accelerator.num_processes > 1:
            counts: Any = self.accelerator.gather(torch.tensor([most], device=self.accelerator.device))
            most = int(counts.max())
        return [[] for _ in range(max(1, most) - len(portions))] + portions

    def _back_off(self) -> None:
        """Halve what goes through the model at once, for the rest of the fit. Raises ``UserError``."""
        whole = set(getattr(self.loss, "types", ())) & {"aot", "aot_unpaired", "sft"}
        if self._running < 2 or whole or self.accelerator.num_processes > 1:
            fewer = "model.media.max_pixels" if self._running < 2 else "training.micro_batch"
            raise UserError(f"out of memory: set training.gradient_checkpointing=true, or lower {fewer}") from None
        self.parts *= 2
        logger.warning("out of memory: micro-batches go through the model in %d parts from here on", self.parts)

    def whole_weights(self) -> dict[str, Any] | None:
        """All weights in one piece where they are sharded, for which all processes ask; None where they are not."""
        if not any(isinstance(p, DTensor) for p in self.learner.model.parameters()):
            return None
        return self.accelerator.get_state_dict(self.model_wrapped)

    def _keep_frozen_eyes_whole(self) -> None:
        # Processes look at unequal numbers of pictures: with a sharded tower one would wait for the others
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        eyes = parameters_of(self.learner.model, ["vision"])
        if plugin is not None and self.engine is not None and eyes:
            plugin.ignored_modules = plugin.ignored_modules or [nn.ParameterList(eyes)]

    def _remembered(self) -> Any:
        """What a step that begins again must find as it was: the state of chance, and what was noted."""
        chance = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return chance, {name: tuple(entry) for name, entry in self._sums.items()}

    def _as_remembered(self, before: Any) -> None:
        (chance, on_gpus), sums = before
        torch.set_rng_state(chance)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)
        self._sums.clear()
        self._sums.update({name: list(entry) for name, entry in sums.items()})
        self._metrics["train"].clear()

    def _weigh_metrics(self, rows: int) -> None:
        # TRL averages what it notes over forwards, whatever their size; here a portion counts as many times as its rows
        for name, values in list(self._metrics["train"].items()):
            if name != "num_tokens":
                del self._metrics["train"][name]
                self._sums[name][0] += sum(values) * rows
                self._sums[name][1] += len(values) * rows

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the loss's parts and metrics since the last time, over all processes."""
        names = sorted(self._sums)
        if names:
            table = torch.tensor([self._sums[name] for name in names], device=self.accelerator.device)
            reduced: Any = self.accelerator.reduce(table, "sum")
            for name, (total, count) in zip(names, reduced.tolist(), strict=True):
                logs[name] = total / count
            self._sums.clear()
        super().log(logs, start_time)

    def _own_parts(self, inputs: dict[str, Any], scores: Scores) -> LossParts:
        return self.loss(scores, inputs["columns"])

    def _trl_parts(self, inputs: dict[str, Any], scores: Scores) -> LossParts:
        assert isinstance(self.loss, TrlLoss)
        model_inputs, reference = inputs["inputs"], {}
        # TRL sums first and subtracts after: two sums of hundreds of nats, of which float32 would lose the difference.
        # Its alpha divergence knows no float64.
        digits = torch.float32 if self.loss.f_divergence == "alpha_divergence" else torch.float64
        scores = {who: replace(text, logp_BT=_answers(text).to(digits)) for who, text in scores.items()}
        for side in ("chosen", "rejected"):
            reference[f"ref_{side}_logps"] = scores[side, "reference"].logp_BT.sum(1)
        given = {
            "input_ids": model_inputs["input_ids"],
            "attention_mask": model_inputs["attention_mask"],
            "completion_mask": inputs["answer"].long(),
            **reference,
        }
        answering: Any = _answering(scores)
        return LossParts({"preference": super().compute_loss(answering, given)})

    def _items(self, batch: dict[str, Any]) -> Tensor:
        rows = len(batch["item"])
        masks = {
            name: batch["answer"][place * rows : (place + 1) * rows, 1:] for place, name in enumerate(self.loss.texts)
        }
        return self.loss.items(masks, batch["columns"]).cpu()

    def _row_id(self, place: int) -> str:
        return self.collator.items[place].row.id

    def _note(self, parts: LossParts, share: float) -> None:
        # A step's shares add up to the number of processes, so this divides by steps, and parts sum to the loss.
        for name, value in parts.parts.items():
            entry = self._sums[f"loss/{name}"]
            entry[0] += float(value.detach()) * share
            entry[1] += share
        for name, value_B in parts.metrics.items():
            self._sums[name][0] += float(value_B.sum())
            self._sums[name][1] += len(value_B)


def _examples(places: Sequence[int]) -> list[dict[str, int]]:
    return [{"item": place} for place in places]


def _answers(text: TextScores) -> Tensor:
    return torch.where(text.mask_BT, text.logp_BT, 0.0)


def _answering(scores: Scores) -> Callable[..., Any]:
    """A stand-in for a model: whatever it is called with, it answers with these scores, [chosen; rejected]."""
    sides = [scores[side, "policy"] for side in ("chosen", "rejected")]
    log_probs = torch.cat([_answers(text) for text in sides])
    stats = {name: torch.cat([text.stats[name] for text in sides]) for name in sides[0].stats}
    stats["is_top1"] = stats["is_top1"].bool()
    return lambda **_: SimpleNamespace(log_probs=log_probs, aux_loss=None, **stats)


def _listing(count: int, is_vision: bool) -> Dataset:
    # TRL decides "vision or not" from the first row's columns, and then leaves the rows alone.
    columns: dict[str, Any] = {"item": list(range(count))}
    return Dataset.from_dict(columns | ({"images": [[]] * count} if is_vision else {}))
