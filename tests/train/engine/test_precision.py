"""Against float64 of the same weights we may not be less exact than TRL, neither in float32 nor in bf16."""

import copy
import statistics

import pytest
import torch
import torch.nn.functional as F
from trl.trainer.utils import add_fused_lm_head

from train.engine.made import WORDS, asked, bench

BETA = 0.1
PAIRS = 4
"""In a batch."""
KINDS = ("log-probs", "loss", "gradient")


def batch(found, photos, chance):
    """Pairs of answers of some forty words, chosen and rejected in turn."""
    texts = []
    for place in range(PAIRS):
        answers = [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (40,), generator=chance)) for _ in range(2)]
        seen = [photos[place % len(photos)]] if found.learner.loaded.is_vision else []
        texts += found.texts(asked(f"describe picture {place}", *seen), answers)
    return texts


def margins(sums_N):
    return sums_N[0::2] - sums_N[1::2]


def ours(found, model, texts):
    tree, scored = found.planner(texts), found.plain(texts)[1][:, 1:]

    def step():
        with torch.no_grad(), model.disable_adapter():
            reference = found.engine.score(model, tree, scored).logp_NT
        logp_NT = found.engine.score(model, tree, scored).logp_NT
        return logp_NT.sum(1), margins((logp_NT - reference).double().sum(1))

    return learnt(model, step)


def theirs(found, model, texts, dtype):
    """TRL's forward and its order of sums."""
    inputs, answer = found.plain(texts, dtype)
    labels = inputs["input_ids"].masked_fill(~answer, -100)

    def sums(model):
        return model(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs.sum(1)

    def step():
        with torch.no_grad(), model.disable_adapter():
            reference = sums(model)
        found = sums(model)
        chosen, rejected = ((found - reference)[side::2] for side in range(2))
        return found, chosen - rejected

    return learnt(model, step)


def exact(found, model, texts):
    """Float64 throughout; TRL's own output layer would compute in float32 whatever it is given."""
    inputs, answer = found.plain(texts, torch.float64)
    ids, mask = inputs["input_ids"][:, 1:], answer[:, 1:]

    def sums(model):
        log_p = model(**inputs, use_cache=False).logits[:, :-1].log_softmax(-1)
        return (log_p.gather(2, ids[..., None])[..., 0] * mask).sum(1)

    def step():
        with torch.no_grad(), model.disable_adapter():
            reference = sums(model)
        found = sums(model)
        return found, margins(found - reference)

    return learnt(model, step)


def learnt(model, step):
    """Sums of log-probs by text, losses by pair, and the gradient of their mean."""
    sums_N, margin_B = step()
    loss_B = -F.logsigmoid(BETA * margin_B)
    loss_B.mean().backward()
    made = torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad(set_to_none=True)
    return sums_N.detach().double(), loss_B.detach().double(), made


def errors(found, photos, dtype, batches):
    """Median over batches of the errors against float64, ours and TRL's, each relative by norm over its batch."""
    rounded = found.learner.model.to(dtype)
    double, patched = copy.deepcopy(rounded).double(), copy.deepcopy(rounded)
    add_fused_lm_head(patched.get_base_model())
    chance = torch.Generator().manual_seed(0)
    apart = {"ours": [], "trl": []}
    for _ in range(batches):
        texts = batch(found, photos, chance)
        wanted = exact(found, double, texts)
        ways = {"ours": ours(found, rounded, texts), "trl": theirs(found, patched, texts, dtype)}
        for name, got in ways.items():
            apart[name].append([float((g - w).norm() / w.norm()) for g, w in zip(got, wanted, strict=True)])
    assert found.engine.backend == "split"
    medians = {name: [statistics.median(kind) for kind in zip(*all_, strict=True)] for name, all_ in apart.items()}
    return {kind: (medians["ours"][place], medians["trl"][place]) for place, kind in enumerate(KINDS)}


def test_not_less_exact_than_trl_in_float32(photos):
    median = errors(bench("qwen2_5_vl", "language"), photos, torch.float32, batches=12)
    for kind in ("loss", "gradient"):
        mine, other = median[kind]
        assert mine <= other, median


@pytest.mark.parametrize("family", ["qwen2_5_vl", "smolvlm", "llama"])
def test_as_exact_as_trl_in_bf16(family, photos):
    median = errors(bench(family, "language"), photos, torch.bfloat16, batches=20)
    for mine, other in median.values():
        assert other > 1e-4 and mine <= 1.2 * other, median
