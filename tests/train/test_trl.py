"""Our seam against TRL's own trainer on the same model and batch, and a canary for each thing the seam leans on."""

import copy
import inspect
import re

import pytest
import torch
import trl
from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from train.made import photo_pairs, text_pairs
from vlm_selfalign.config import ModelSettings, Schedule, TrainingSettings
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.train.batch import Collator, prepare
from vlm_selfalign.train.dpo_family import NAMES
from vlm_selfalign.train.policy import learner
from vlm_selfalign.train.remember import remember_reference
from vlm_selfalign.train.texts import Texts
from vlm_selfalign.train.trl import Elsewhere, FitTrainer, arguments

SETTINGS = {"label_smoothing": 0.1, "beta": 0.3}
CASES = {name: (name, SETTINGS) for name in NAMES} | {
    "sigmoid+sft": ("trl", {"types": ("sigmoid", "sft"), "weights": (1.0, 0.2)}),
    "mpo": ("trl", {"types": ("sigmoid", "bco_pair", "sft"), "weights": (0.8, 0.2, 1.0), "beta": 0.2}),
    "forward_kl": ("dpo", {"f_divergence": "forward_kl"}),
    "js": ("dpo", {"f_divergence": "js_divergence"}),
    "alpha": ("dpo", {"f_divergence": "alpha_divergence"}),
}

ROUNDING = {"discopop": 20e-6, "forward_kl": 3e-6}
"""Gradients agree to 1e-6 but where the loss itself amplifies the last digit of a log-prob (1/tau = 20, exp)."""


def ours(start, rows, loss, tmp_path, **model):
    torch.manual_seed(0)
    learns = learner(str(start), str(start), ModelSettings(device="cpu", **model), ("vision", "embeddings"))
    maker = Texts(Encoder.of(learns.loaded))
    items, _ = prepare(rows, loss, maker, None)
    args = arguments(loss, Schedule(), TrainingSettings(), len(items), tmp_path, 0, on_cpu=True)
    trainer = FitTrainer(learns, Collator(items, loss, maker), args)
    remember_reference(trainer, 3)
    with torch.no_grad():  # now the policy has learnt something
        torch.manual_seed(1)
        for p in trainer.model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))
    learns.same_start = False
    return trainer


def gradients(trainer, batch):
    trainer._step_items = float(len(trainer.collator.items))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    grads = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return loss.detach(), grads


def theirs(trainer, batch, tmp_path):
    """The loss and gradients of TRL's trainer with its own forwards, on the same tensors."""
    policy, reference = copy.deepcopy(trainer.model), copy.deepcopy(trainer.learner.frozen)
    for model in (policy, reference):
        model.__dict__.pop("forward", None)  # TRL's patch of ours, which the copy took along
    args = copy.deepcopy(trainer.args)
    processor = trainer.learner.loaded.processor
    turn = {role: [{"role": role, "content": "a"}] for role in ("user", "assistant")}
    row = {"prompt": turn["user"], "chosen": turn["assistant"], "rejected": turn["assistant"]}
    if trainer.learner.loaded.is_vision:
        row |= {"images": []}
    plain = DPOTrainer(
        model=policy, ref_model=reference, args=args, train_dataset=Dataset.from_list([row]), processing_class=processor
    )
    policy.train()
    given = {**batch["inputs"], "completion_mask": batch["answer"].long()}
    loss = plain.compute_loss(policy, given)
    loss.backward()
    metrics = {name: values[-1] for name, values in plain._metrics["train"].items()}
    return loss.detach(), {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}, metrics


def assert_same(trainer, tmp_path, within=1e-6):
    batch = trainer.collator([{"item": place} for place in range(len(trainer.collator.items))])
    loss, grads = gradients(trainer, batch)
    expected, expected_grads, metrics = theirs(trainer, batch, tmp_path)
    assert float(loss) == pytest.approx(float(expected), abs=1e-6, rel=1e-6)
    assert grads.keys() == expected_grads.keys() and grads
    largest = max(float(g.abs().max()) for g in expected_grads.values())
    for name, grad in grads.items():
        assert float((grad - expected_grads[name]).abs().max()) <= within * max(1.0, largest), name
    return metrics


@pytest.mark.parametrize("case", CASES)
def test_every_loss_of_trl_on_text(llama, tmp_path, case):
    name, settings = CASES[case]
    trainer = ours(llama, text_pairs(5), resolve("loss", name).build(settings), tmp_path)
    metrics = assert_same(trainer, tmp_path, ROUNDING.get(case, 1e-6))
    for key, values in trainer._metrics["train"].items():
        assert values[-1] == pytest.approx(metrics[key], abs=2e-5), key


@pytest.mark.parametrize("case", ["dpo", "ipo", "sigmoid+sft"])
def test_losses_of_trl_on_pictures(qwen, photos, tmp_path, case):
    name, settings = CASES[case]
    trainer = ours(qwen, photo_pairs(photos), resolve("loss", name).build(settings), tmp_path)
    assert trainer._is_vision_dataset
    assert_same(trainer, tmp_path)


@pytest.mark.parametrize("start", ["llama", "qwen"])
def test_span_dpo_over_whole_answers_is_trls_sigmoid(request, photos, tmp_path, start):
    rows = text_pairs(5) if start == "llama" else photo_pairs(photos)
    bare = [row.model_copy(update={"chosen_spans": (), "rejected_spans": ()}) for row in rows]
    folder = request.getfixturevalue(start)
    for own in (resolve("loss", "span_dpo")(beta=0.3), resolve("loss", "rrpo")(beta=0.3, alpha=0.0)):
        mine = ours(folder, bare, own, tmp_path / "a")
        trls = ours(folder, bare, resolve("loss", "dpo")(beta=0.3), tmp_path / "b")
        found = [
            gradients(t, t.collator([{"item": place} for place in range(len(t.collator.items))])) for t in (mine, trls)
        ]
        assert float(found[0][0]) == pytest.approx(float(found[1][0]), abs=1e-6)
        for name, grad in found[0][1].items():
            assert torch.allclose(grad, found[1][1][name], atol=1e-6), name


def test_soft_dpo_with_a_constant_label_is_trls_aot_of_single_pairs(llama, tmp_path):
    rows = [row.model_copy(update={"label_prob": 0.8}) for row in text_pairs(1)]
    soft = ours(llama, rows, resolve("loss", "soft_dpo")(beta=0.3), tmp_path / "a")
    aot = ours(llama, rows, resolve("loss", "aot")(beta=0.3, label_smoothing=0.2), tmp_path / "b")
    a, b = (gradients(t, t.collator([{"item": 0}])) for t in (soft, aot))
    assert float(a[0]) == pytest.approx(float(b[0]), abs=1e-6)
    for name, grad in a[1].items():
        assert torch.allclose(grad, b[1][name], atol=1e-6), name


def test_trls_own_pipeline_from_raw_rows_agrees(llama, tmp_path):
    """Its tokens, batches and forwards, not only its loss: Llama's template adds nothing after the end token."""
    rows = text_pairs(4)
    trainer = ours(llama, rows, resolve("loss", "dpo")(beta=0.3), tmp_path)
    batch = trainer.collator([{"item": place} for place in range(4)])
    loss, _ = gradients(trainer, batch)
    policy, reference = copy.deepcopy(trainer.model), copy.deepcopy(trainer.learner.frozen)
    for model in (policy, reference):
        model.__dict__.pop("forward", None)

    def turns(role, text):
        return [{"role": role, "content": text}]

    raw = [
        {
            "prompt": turns("user", row.prompt.question),
            "chosen": turns("assistant", row.chosen),
            "rejected": turns("assistant", row.rejected),
        }
        for row in rows
    ]
    args = copy.deepcopy(trainer.args)
    plain = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=args,
        train_dataset=Dataset.from_list(raw),
        processing_class=trainer.learner.loaded.processor,
    )
    raw_batch = plain.data_collator([plain.train_dataset[i] for i in range(4)])
    assert raw_batch["input_ids"].tolist() == batch["inputs"]["input_ids"].tolist()
    assert raw_batch["completion_mask"].bool().tolist() == batch["answer"].tolist()
    assert float(plain.compute_loss(policy, raw_batch)) == pytest.approx(float(loss), abs=1e-6)


def test_the_start_of_every_loss_is_what_theory_says(llama, tmp_path):
    for name in NAMES:
        loss = resolve("loss", name).build(SETTINGS)
        trainer = ours(llama, text_pairs(3), loss, tmp_path)
        with torch.no_grad():
            trainer.model.load_state_dict(trainer.learner.frozen.state_dict())
        batch = trainer.collator([{"item": place} for place in range(3)])
        found, _ = gradients(trainer, batch)
        assert float(found) == pytest.approx(float(loss.at_start(batch["columns"])), rel=1e-5), name


def test_canary_version():
    assert trl.__version__.startswith("1.16."), "read the seams in train/trl.py again before moving TRL"


def test_canary_what_trl_passes_to_the_model_and_reads_off_it(llama, tmp_path):
    trainer = ours(llama, text_pairs(2), resolve("loss", "dpo")(), tmp_path)
    batch = trainer.collator([{"item": 0}, {"item": 1}])
    scores = trainer.scores(trainer.model, batch)
    asked, read = {}, set()

    class Answer:
        def __init__(self, answer):
            self._answer = answer

        def __getattr__(self, name):
            read.add(name)
            return getattr(self._answer, name)

    import vlm_selfalign.train.trl as seam

    def spied(scores):
        inner = real(scores)

        def model(**kwargs):
            asked.update(kwargs)
            return Answer(inner(**kwargs))

        return model

    real, seam._answering = seam._answering, spied
    try:
        trainer._trl_parts(batch, scores)
    finally:
        seam._answering = real
    assert set(asked) == {"input_ids", "attention_mask", "use_cache", "labels", "fused_lm_head"}
    assert read == {"log_probs", "entropy", "mean_logits", "is_top1"}


def test_canary_the_reference_is_ours_and_never_called(llama, tmp_path):
    trainer = ours(llama, text_pairs(2), resolve("loss", "dpo")(), tmp_path)
    stub = trainer.accelerator.unwrap_model(trainer.ref_model)
    assert isinstance(stub, Elsewhere) and trainer.precompute_ref_logps is True
    with pytest.raises(RuntimeError, match="the seam has moved"):
        trainer.ref_model(input_ids=torch.zeros(1, 1))


def test_canary_an_adapter_is_not_copied_behind_our_back(llama, tmp_path):
    loss = resolve("loss", "dpo")()
    lora = {"r": 2, "alpha": 4}
    trainer = ours(llama, text_pairs(2), loss, tmp_path, lora=lora)
    assert set(trainer.model.peft_config) == {"default"}


def test_canary_hooks_that_are_overridden_still_exist():
    parameters = inspect.signature(DPOTrainer.compute_loss).parameters
    assert list(parameters) == ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]
    for name in ("_prepare_dataset", "get_batch_samples", "training_step", "log"):
        assert callable(getattr(DPOTrainer, name))
    source = inspect.getsource(DPOTrainer._compute_loss)
    assert "self.precompute_ref_logps" in source and 'inputs["ref_chosen_logps"]' in source
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == {kind for kind, _ in NAMES.values()} | {"sft"}
    assert "loss_is_scaled_for_ga" in inspect.getsource(DPOTrainer.__mro__[2].training_step)


def test_canary_trl_hides_nan_by_default_and_we_do_not(tmp_path):
    assert DPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False).logging_nan_inf_filter is True
    loss = resolve("loss", "dpo")()
    assert arguments(loss, Schedule(), TrainingSettings(), 4, tmp_path, 0, True).logging_nan_inf_filter is False
