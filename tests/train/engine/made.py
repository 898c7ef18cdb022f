"""Tiny learners, hybrids among them, texts, and the plain way to the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, Lfm2Config, Lfm2ForCausalLM, Qwen3NextConfig, Qwen3NextForCausalLM

from vlm_selfalign.config import LoraSettings, ModelSettings
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.train.batch import Collator
from vlm_selfalign.train.engine.forward import Engine
from vlm_selfalign.train.engine.plan import Planner
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.losses import span_dpo
from vlm_selfalign.train.policy import Learner, learner
from vlm_selfalign.train.score import score_tokens
from vlm_selfalign.train.texts import Text, Texts

PAIR = ("the red ball stands on the table", "there is a dog")
GROUP = (*PAIR, "the red ball", "yes", "no , there is a cat and a dog under the tree")
WORDS = ("the", "a", "red", "blue", "ball", "dog", "cat", "table", "house", "tree", "bird", "street", "stands", "on")
ENDS = (True, True, True, False, True)


@dataclass
class Bench:
    """A model that learns, what encodes for it, and the fast way."""

    learner: Learner
    maker: Texts
    engine: Engine
    planner: Planner

    def texts(self, prompt: Prompt, answers: Sequence[str] = PAIR) -> list[Text]:
        return [self.maker.encode(prompt, a, end, None) for a, end in zip(answers, ENDS, strict=False)]

    def plain(self, texts: Sequence[Text], dtype: torch.dtype = torch.float32) -> tuple[dict, torch.Tensor]:
        batch = Collator([], span_dpo(), self.maker).plain(texts)
        inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch["inputs"].items()}
        return inputs, batch["answer"]

    def fast_scores(self, texts: Sequence[Text], **given):
        return self.engine.score(self.learner.model, self.planner(texts), self.plain(texts)[1][:, 1:], **given)


def bench(family: str, lora: str | None = None, freeze: Sequence[str] = (), vision: Vision | None = None) -> Bench:
    """``lora``: ``language`` or ``all`` with a B that is not zero; None trains full weights."""
    torch.manual_seed(0)
    settings = LoraSettings(r=4, targets=lora) if lora else None
    start = f"tiny:{family}"
    found = learner(start, start, ModelSettings(device="cpu", lora=settings), freeze, needs_reference=False)
    with torch.no_grad():
        for p in found.model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))
    found.model.train()
    maker = Texts(Encoder.of(found.loaded))
    return Bench(found, maker, Engine(vision or Vision()), Planner(found.model, maker))


def _qwen3_next(**given) -> Qwen3NextForCausalLM:
    config = Qwen3NextConfig(
        **given,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=0,
        mlp_only_layers=[0, 1, 2],
    )
    return Qwen3NextForCausalLM(config)


def _lfm2(**given) -> Lfm2ForCausalLM:
    return Lfm2ForCausalLM(Lfm2Config(**given, layer_types=["conv", "full_attention", "conv"]))


HYBRIDS = {"qwen3_next": _qwen3_next, "lfm2": _lfm2}


def hybrid(family: str, words_of: Path, folder: Path) -> None:
    """Writes a tiny model of linear and full attention, which has the tokenizer of ``words_of``."""
    words = AutoTokenizer.from_pretrained(words_of)
    torch.manual_seed(0)
    model = HYBRIDS[family](
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def asked(words: str, *photos: Media) -> Prompt:
    return Prompt.user(words, *photos)


def gradients(bench: Bench, logp_NT: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of chosen minus rejected, weighted so that no two tokens count the same."""
    weights = torch.linspace(1, 2, logp_NT.shape[1]) * torch.tensor([(-1.0) ** n for n in range(len(logp_NT))])[:, None]
    (logp_NT * weights).sum().backward()
    made = {name: p.grad for name, p in bench.learner.model.named_parameters() if p.grad is not None}
    bench.learner.model.zero_grad(set_to_none=True)
    return made


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative distance of two gradients over all parameters, which must be the same."""
    assert one.keys() == other.keys() and one
    size = sum(float(other[name].double().square().sum()) for name in other) ** 0.5
    return sum(float((one[name].double() - other[name].double()).square().sum()) for name in one) ** 0.5 / size


def both(bench: Bench, texts: Sequence[Text], fast=None) -> tuple[float, float]:
    """Errors of the fast way against the plain one: of log-probs, relative to the largest, and of all gradients."""
    inputs, answer = bench.plain(texts)
    plain = score_tokens(bench.learner.model, inputs, answer).logp_NT
    wanted = gradients(bench, plain)
    logp_NT = (fast or bench.fast_scores)(texts).logp_NT
    error = float((logp_NT - plain).abs().max() / plain.abs().max())
    return error, apart(gradients(bench, logp_NT), wanted)
