"""APASI (Lu et al. 2025): hallucinations injected by the model itself, guided by a graph of the whole run.

Bends the house: a fold that makes one value of everything, a model that goes on without the picture.
"""

import itertools
import math
import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.requests import Generate, Sampling, Text
from vlm_selfalign.core.rows import Demo, Pair
from vlm_selfalign.core.steps import ask

from .play import Scripted, Show, check, play, scenes, seen

OBJECTS = ("boat", "star", "moon", "tree", "fish", "duck", "kite", "lamp")
BLIND = Sampling(max_tokens=64, min_tokens=5, repetition_penalty=1.1, stop=(".",))


@method
def describe():
    def run(sample: Sample):
        caption = yield from ask(Generate(prompt=sample.prompt))
        return [Demo(prompt=sample.prompt, answer=caption.text)]

    return run


@fold
def cooccurrence():
    def run(rows):
        beside = {word: Counter() for word in OBJECTS}
        for row in rows:
            for one, other in itertools.permutations(objects(row.answer), 2):
                beside[one][other] += 1
        return {word: sorted(count, key=lambda other: (-count[other], other)) for word, count in beside.items()}

    return run


@method
def apasi(rate: float = 0.2):
    def run(sample: Sample, describe: list[Demo], graph: dict[str, list[str]]):
        caption, chance = describe[0].answer, sample.rng("apasi")
        spans = sentences(caption)
        written = [caption[start:end] for start, end in spans]
        places = late_places(len(spans), rate, chance)
        kept = [word for i, sentence in enumerate(written) if i not in places for word in objects(sentence)]
        for place in places:
            guide = chance.choice(absent(graph, chance.choice(kept), objects(caption)))
            before = " ".join([*written[:place], f"There is also a {guide}"])
            blind = yield from ask(Generate(prompt=sample.prompt.blind().opened(before), sampling=BLIND))
            written[place] = blind.text[len(" ".join([*written[:place], ""])) :]
        rejected = " ".join(written)
        marked = [(spans[place], sentences(rejected)[place]) for place in places]
        chosen_spans, rejected_spans = zip(*marked, strict=True)
        return [Pair(prompt=sample.prompt, chosen=caption, rejected=rejected,
                     chosen_spans=chosen_spans, rejected_spans=rejected_spans)]  # fmt: skip

    return run


def late_places(count: int, rate: float, chance: random.Random) -> list[int]:
    wanted = round(rate * count)
    if not 1 <= wanted <= count - 1:
        raise Drop("too few sentences")
    weights = dict(enumerate(place_weights(count), start=1))
    drawn = []
    for _ in range(wanted):
        drawn += chance.choices(list(weights), list(weights.values()))
        del weights[drawn[-1]]
    return sorted(drawn)


def place_weights(count: int) -> list[float]:
    """w(i) = a sqrt(i) + b for sentences 1 .. count-1: 1 for the first of them, 2 for the last."""
    slope = 1 / (math.sqrt(count - 1) - 1) if count > 2 else 0
    return [slope * math.sqrt(place) + 1 - slope for place in range(1, count)]


def absent(graph: dict[str, list[str]], key: str, named: list[str]) -> list[str]:
    candidates = [word for word in graph[key] if word not in named][:10]
    if not candidates:
        raise Drop("nothing else was ever beside it")
    return candidates


def objects(text: str) -> list[str]:
    return sorted({word for word in re.findall(r"[a-z]+", text) if word in OBJECTS})


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of sentences: a period ends one unless a digit touches it."""
    return [(m.start(1), m.end(1)) for m in re.finditer(r"\s*(\S.*?(?:(?<!\d)\.(?!\d)|$))", text)]


def policy(request: Generate, chance: random.Random) -> Text:
    if request.prompt.opening:
        return Text(text=f"{request.prompt.opening} that shines.", finish="stop")
    return Text(text=" ".join(f"A {word} stands here." for word in seen(request.prompt).split()))


RECIPE = {
    "describe": {"method": f"{__name__}:describe"},
    "graph": {"fold": f"{__name__}:cooccurrence", "rows": "describe"},
    "pairs": {"method": f"{__name__}:apasi", "rate": {"per_round": [0.4, 0.2]}},
}
SEEN = ("boat star moon tree duck", "boat star fish kite lamp", "moon fish", "tree duck star boat kite lamp", "star")
SHOW = Show(RECIPE, lambda: {"policy": Scripted(policy)}, scenes(*SEEN), rounds=2)


def test_plays_the_same_however_it_is_run():
    check(SHOW)


def test_pairs_differ_in_exactly_the_injected_sentences():
    played = play(SHOW)
    rows = [(round_number, row) for round_number in (0, 1) for row in played.made[round_number, "pairs"]]
    assert len(rows) == 7
    for round_number, row in rows:
        parts = [[t[a:b] for a, b in sentences(t)] for t in (row.chosen, row.rejected)]
        differing = [i for i, (one, other) in enumerate(zip(*parts, strict=True)) if one != other]
        assert len(differing) == round((0.2 if round_number else 0.4) * len(parts[0])) == len(row.chosen_spans)
        assert 0 not in differing
        for place, (start, end) in zip(differing, row.rejected_spans, strict=True):
            assert row.rejected[start:end] == parts[1][place]
            assert not set(objects(parts[1][place])) & set(objects(row.chosen))
    assert played.drops == Counter({"too few sentences": 3})


def test_injection_never_sees_the_picture():
    continued = [request.prompt for request in play(SHOW).asked if request.prompt.opening]
    assert continued and all(prompt.media == () for prompt in continued)


def test_words_alone_go_the_same_way():
    words = play(replace(SHOW, samples=scenes(*SEEN, pictures=False)))
    assert Counter(map(type, words.asked)) == Counter(map(type, play(SHOW).asked))


def test_weights_are_the_published_ones():
    expected = [1, 1.2517, 1.4448, 1.6076, 1.7511, 1.8807, 2]
    assert place_weights(8) == pytest.approx(expected, abs=5e-5)
    first = [weight / sum(place_weights(5)) for weight in place_weights(5)]
    assert first == pytest.approx([0.1627, 0.2301, 0.2818, 0.3254], abs=5e-5)


def test_sentences_end_at_periods_without_digits():
    text = "A dog sits. There are 2.5 cats here. It is 3. Then go"
    assert [text[start:end] for start, end in sentences(text)][-1] == "It is 3. Then go"
    assert len(sentences(text)) == 3
