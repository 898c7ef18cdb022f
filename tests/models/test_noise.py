"""Seeded sampling is exact sampling, and no row knows its batch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from vlm_selfalign.core.requests import Sampling
from vlm_selfalign.models import noise

torch.set_num_threads(1)
MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """The published algorithm in unbounded integers: advance by the golden gamma, then mix."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    return mixed(z)


def mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def sampler(sampling, seeds, prompt=None, mask=None, eos=(0,), **options):
    prompt = torch.zeros(len(seeds), 1, dtype=torch.long) if prompt is None else prompt
    mask = torch.ones_like(prompt) if mask is None else mask
    return noise.SeededSampler([sampling] * len(seeds), seeds, prompt, mask, eos, **options)


def draw(logits_V, sampling, seeds):
    scores = logits_V.expand(len(seeds), -1)
    return sampler(sampling, seeds)(torch.zeros(len(seeds), 1, dtype=torch.long), scores).argmax(-1)


def test_first_output_of_splitmix64_is_the_published_one():
    # https://prng.di.unimi.it/splitmix64.c seeded with 1234567
    assert splitmix(1234567) == 6457827717110365317


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**20), st.integers(0, 300))
def test_uniform_is_splitmix64_of_seed_step_and_token(seed, step, token):
    key = mixed(splitmix(seed & MASK) + (step + 1) * 0x9E3779B97F4A7C15 & MASK)
    bits = splitmix((key + token * 0x9E3779B97F4A7C15) & MASK)
    got = noise.uniform(torch.tensor([seed]), torch.tensor([step]), token + 1)[0, token].item()
    assert got == ((bits >> 12) + 0.5) * 2.0**-52
    assert 0 < got < 1


def test_uniform_numbers_are_uniform_along_seeds_steps_and_tokens():
    many = torch.arange(20_000)
    zero = torch.zeros_like(many)
    along = {
        "tokens": noise.uniform(torch.tensor([5]), torch.tensor([0]), 20_000)[0],
        "seeds": noise.uniform(many, zero, 1)[:, 0],
        "steps": noise.uniform(zero, many, 1)[:, 0],
    }
    for name, values in along.items():
        assert kstest(values.numpy(), "uniform").pvalue > 1e-3, name
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03, name


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1),
        Sampling(temperature=0.5),
        Sampling(temperature=1.7, top_k=4),
        Sampling(temperature=1, top_p=0.8),
        Sampling(temperature=0.8, top_k=6, top_p=0.9),
    ],
)
def test_draws_follow_the_softmax_that_transformers_would_sample(sampling):
    logits = torch.randn(9, generator=torch.Generator().manual_seed(3)) * 1.5
    scores = (logits / sampling.temperature)[None]
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    expected = scores.softmax(-1)[0].double().numpy()
    drawn = 40_000
    counts = np.bincount(draw(logits, sampling, range(drawn)).numpy(), minlength=9)
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    expected = expected[possible] / expected[possible].sum()
    assert chisquare(counts[possible], expected * drawn).pvalue > 1e-3


def test_successive_steps_of_one_seed_are_independent_draws():
    logits = torch.tensor([0.0, 0.5, 1.0]).expand(5000, -1)
    sample = sampler(Sampling(temperature=1), range(5000))
    first, second = (sample(torch.zeros(5000, 1 + step, dtype=torch.long), logits).argmax(-1) for step in (0, 1))
    joint = torch.bincount(first * 3 + second, minlength=9).numpy()
    p = logits[0].softmax(-1).double().numpy()
    assert chisquare(joint, np.outer(p, p).ravel() / p.sum() ** 2 * 5000).pvalue > 1e-3


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(7)), st.integers(1, 7))
def test_a_row_draws_the_same_in_any_batch_and_order(order, size):
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(temperature=0.9, top_k=20, top_p=0.95)
    whole = sampler(sampling, range(7))(torch.zeros(7, 1, dtype=torch.long), logits)
    rows = list(order)[:size]
    part = sampler(sampling, rows)(torch.zeros(size, 1, dtype=torch.long), logits[rows])
    assert torch.equal(part, whole[rows])


def test_rows_keep_their_own_settings():
    logits = torch.randn(1, 30).expand(3, -1)
    kinds = [Sampling(), Sampling(temperature=1, top_k=1), Sampling(temperature=5)]
    mixed_rows = noise.SeededSampler(kinds, [1, 1, 1], torch.zeros(3, 1).long(), torch.ones(3, 1), [0])
    got = mixed_rows(torch.zeros(3, 1, dtype=torch.long), logits)
    alone = [sampler(kind, [1])(torch.zeros(1, 1, dtype=torch.long), logits[:1]) for kind in kinds]
    assert torch.equal(got, torch.cat(alone))
    assert got[0].argmax() == got[1].argmax() == logits[0].argmax()


def test_chunks_do_not_show(monkeypatch):
    seeds, steps = torch.arange(6), torch.arange(6) * 3
    whole = noise.gumbel(seeds, steps, 11)
    monkeypatch.setattr(noise, "_CHUNK", 13)
    assert torch.equal(noise.gumbel(seeds, steps, 11), whole)
    assert whole.isfinite().all()


def test_other_seeds_and_steps_draw_differently_and_written_shifts_the_steps():
    logits = torch.zeros(1, 1000)
    at = {}
    for seed in (0, 1, -1, 1 << 63, (1 << 64) - 2):
        for step in (0, 1):
            ids = torch.zeros(1, 1 + step, dtype=torch.long)
            at[seed, step] = sampler(Sampling(temperature=1), [seed])(ids, logits).argmax().item()
    assert len(set(at.values())) == len(at)
    later = sampler(Sampling(temperature=1), [0], written=[1])
    assert later(torch.zeros(1, 1, dtype=torch.long), logits).argmax().item() == at[0, 1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 12), st.floats(0.05, 1))
def test_filters_are_those_of_transformers(seed, top_k, top_p):
    scores = torch.randn(4, 12, generator=torch.Generator().manual_seed(seed)) * 3
    expected = TopKLogitsWarper(top_k)(None, scores) if top_k else scores
    expected = TopPLogitsWarper(top_p)(None, expected) if top_p < 1 else expected
    got = noise.keep_likely(scores, torch.full((4, 1), top_k), torch.full((4, 1), top_p))
    assert torch.equal(got, expected)


def test_repetition_penalty_is_that_of_transformers_and_blind_to_padding():
    prompt, new = torch.tensor([[3, 4, 3, 5]]), torch.tensor([[3, 4, 3, 5, 7]])
    scores = torch.randn(1, 10)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(new, scores)
    sampling = Sampling(repetition_penalty=1.3)
    plain = sampler(sampling, [0], prompt)
    plain(prompt, torch.zeros(1, 10))
    assert torch.equal(plain(new, scores), expected)
    pad = torch.full((1, 3), 9)  # token 9 is real elsewhere: as padding it must not count
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    padded = sampler(sampling, [0], torch.cat([pad, prompt], 1), mask)
    padded(torch.cat([pad, prompt], 1), torch.zeros(1, 10))
    assert torch.equal(padded(torch.cat([pad, new], 1), scores), expected)


def test_min_tokens_holds_the_end_back_and_banned_tokens_never_come():
    logits = torch.tensor([[9.0, 8.0, 1.0]])
    sample = sampler(Sampling(min_tokens=1), [0], eos=[0], banned_ids=[1])
    assert sample(torch.zeros(1, 1, dtype=torch.long), logits).argmax() == 2
    assert sample(torch.zeros(1, 2, dtype=torch.long), logits).argmax() == 0
    assert logits.tolist() == [[9.0, 8.0, 1.0]]


def test_it_observes_the_unfiltered_distribution_at_temperature_1():
    sample = sampler(Sampling(temperature=0.1, top_k=2), [3], eos=[0], banned_ids=[1], observe=True)
    logits = torch.tensor([[1.0, 5.0, 2.0, 0.5]])
    token = sample(torch.zeros(1, 1, dtype=torch.long), logits).argmax().item()
    p = logits[0].double().softmax(-1)
    seen = sample.observed()
    assert seen["logprobs"][0] == pytest.approx([p[token].log().item()], abs=1e-6)
    assert seen["entropy"][0] == pytest.approx([-(p * p.log()).sum().item()], abs=1e-6)
    assert seen["certainty"][0] == pytest.approx([(0.25 * (0.25 / p).log()).sum().item()], abs=1e-6)


def test_closed_forms_of_entropy_and_certainty():
    flat = torch.zeros(1, 8).log_softmax(-1)
    assert noise.entropy(flat).item() == pytest.approx(math.log(8), abs=1e-6)
    assert noise.certainty(flat).item() == pytest.approx(0, abs=1e-6)
    sure = torch.tensor([[0.0, -torch.inf]])
    assert noise.entropy(sure).item() == 0
    assert noise.certainty(sure).item() == math.inf


def test_nan_logits_mark_their_row_only():
    sample = sampler(Sampling(temperature=1), [0, 1])
    sample(torch.zeros(2, 1, dtype=torch.long), torch.tensor([[0.0, 1.0], [0.0, torch.nan]]))
    assert sample.broken_B.tolist() == [False, True]
