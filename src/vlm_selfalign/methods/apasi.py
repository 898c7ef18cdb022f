"""APASI: preferences from self-injected hallucinations (Lu et al. 2025).

The model's own caption is chosen. In the rejected one a few late sentences are re-written *blind*: each opens with
an object that often stands beside what the caption names but is not named, and the model goes on without seeing the
picture. Both captions are the same but for those sentences, so spans are exact. ::

    describe: {method: describe}
    graph:    {fold: cooccurrence, rows: describe}
    pairs:    {method: apasi, rate: {per_round: [.4, .2]}}
    policy:   {fit: dpo, rows: pairs}

Two safeguards the paper lacks: the model's own yes/no must say that the injected object is absent (``verify``), and
openings agree with the object in article and number.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Demo, Pair, Span
from vlm_selfalign.core.steps import Steps, ask
from vlm_selfalign.scoring.claims import read_claims
from vlm_selfalign.scoring.self_check import check_kinds, named_kinds
from vlm_selfalign.scoring.sentences import split_sentences
from vlm_selfalign.scoring.vocabulary import Vocabulary, with_article

Graph = Mapping[str, Any]


@fold
def cooccurrence(vocabulary: str = "world") -> Callable[[Iterable[Demo]], dict[str, Any]]:
    """How often each kind, and each pair of kinds, is named in one caption: ``{"count": ..., "together": ...}``."""
    words = Vocabulary.load(vocabulary)

    def run(rows: Iterable[Demo]) -> dict[str, Any]:
        count: Counter[str] = Counter()
        together: dict[str, Counter[str]] = {}
        for row in rows:
            kinds = sorted(named_kinds([row.answer], words))
            count.update(kinds)
            for kind in kinds:
                together.setdefault(kind, Counter()).update(other for other in kinds if other != kind)
        return {"count": dict(sorted(count.items())), "together": {k: dict(v) for k, v in sorted(together.items())}}

    return run


@method
def apasi(
    rate: float = 0.2,
    skip: int = 1,
    neighbours: int = 10,
    vocabulary: str = "world",
    verify: bool = True,
    openings: tuple[str, ...] = (),
    max_tokens: int = 64,
    repetition_penalty: float = 1.1,
) -> Callable[[Sample, list[Demo], Graph], Steps[list[Pair]]]:
    """One pair per caption with enough sentences.

    ``rate``: share of the sentences injected; ``skip``: first sentences never touched; ``neighbours``: how many of
    the most co-occurring objects are candidates; ``openings``: phrases with ``{}`` for the object with its article
    (none: twenty built-in ones).
    """
    words = Vocabulary.load(vocabulary)
    sampling = Sampling(max_tokens=max_tokens, min_tokens=1, stop=(".",), repetition_penalty=repetition_penalty)

    def run(sample: Sample, describe: list[Demo], graph: Graph) -> Steps[list[Pair]]:
        if not describe:
            raise Drop("no caption")
        caption, chance = describe[0].answer, sample.rng("apasi")
        spans = [_tight(caption, span) for span in split_sentences(caption, rule="apasi")]
        places = injected_places(len(spans), rate, skip, chance)
        gone = [spans[place] for place in places]
        claims = [claim for claim in read_claims(caption, words) if not claim.negated]
        kept = [claim.kind for claim in claims if not any(start <= claim.start < end for start, end in gone)]
        named = named_kinds([caption], words)
        sentences = [caption[start:end] for start, end in spans]
        guides: list[str] = []
        for place in places:
            guide = yield from _guide(
                sample.prompt, kept, named | set(guides), graph, neighbours, words, verify, chance
            )
            opening = chance.choice(openings or OPENINGS).format(with_article(guide))
            before = " ".join(sentences[:place])
            blind = sample.prompt.blind().opened(f"{before} {opening}" if before else opening)
            written = yield from ask(Generate(prompt=blind, sampling=sampling))
            sentences[place] = _one_sentence(opening, written.text)
            guides.append(guide)
        return [_pair(sample.prompt, caption, spans, sentences, places, guides)]

    return run


def injected_places(count: int, rate: float, skip: int, chance: random.Random) -> list[int]:
    """Which of ``count`` sentences are replaced: ``round(rate * count)`` of them (at least one, at most all but one),
    drawn without replacement with weight a*sqrt(i)+b, which is 1 for the first candidate and 2 for the last.
    """
    wanted = round(rate * count)
    if not 1 <= wanted <= count - 1 or count <= skip:
        raise Drop("too few sentences to inject")
    weights = dict(zip(range(skip, count), place_weights(count, skip), strict=True))
    drawn: list[int] = []
    for _ in range(min(wanted, len(weights))):
        drawn.append(chance.choices(list(weights), list(weights.values()))[0])
        del weights[drawn[-1]]
    return sorted(drawn)


def place_weights(count: int, skip: int = 1) -> list[float]:
    """Weights of sentences ``skip .. count-1``; uniform when only one is left."""
    if count <= skip + 1:
        return [1.0] * (count - skip)
    slope = 1 / (math.sqrt(count - 1) - math.sqrt(skip))
    return [slope * math.sqrt(place) + 1 - slope * math.sqrt(skip) for place in range(skip, count)]


def _guide(
    prompt: Prompt,
    kept: Sequence[str],
    named: set[str],
    graph: Graph,
    neighbours: int,
    words: Vocabulary,
    verify: bool,
    chance: random.Random,
) -> Steps[str]:
    """An object that often stands beside one the kept sentences name, and that is neither named nor seen."""
    if not kept:
        raise Drop("no object in the kept sentences")
    key = chance.choice(list(kept))
    beside = sorted(graph["together"].get(key, {}).items(), key=lambda item: (-item[1], item[0]))
    candidates = [kind for kind, _ in beside if kind not in named][:neighbours]
    candidates = candidates or sorted(set(graph["count"]) - named)
    chance.shuffle(candidates)
    for kind in candidates:
        if not verify:
            return kind
        verdict = yield from check_kinds(prompt, [kind], words)
        if verdict.exists[kind] < 0.5:
            return kind
    raise Drop("every co-occurring object seems to be in the picture")


def _tight(text: str, span: Span) -> Span:
    """The span without the blanks before it, which stay where they are."""
    start, end = span
    return start + len(text[start:end]) - len(text[start:end].lstrip()), end


def _one_sentence(opening: str, written: str) -> str:
    """The opening and what the blind model wrote after it, closed by a period."""
    # The reply repeats the opening text it was given; only the continuation is new.
    sentence = written[written.rfind(opening) :].strip() if opening in written else f"{opening}{written}".strip()
    if sentence.rstrip(".") == opening.rstrip("."):
        raise Drop("empty blind continuation")
    return sentence if sentence.endswith(".") else f"{sentence}."


def _pair(
    prompt: Prompt,
    caption: str,
    spans: Sequence[Span],
    sentences: Sequence[str],
    places: Sequence[int],
    guides: Sequence[str],
) -> Pair:
    rejected, rejected_spans, gap_start = "", [], 0
    for place, (start, end) in enumerate(spans):
        rejected += caption[gap_start:start]
        if place in places:
            rejected_spans.append((len(rejected), len(rejected) + len(sentences[place])))
        rejected += sentences[place]
        gap_start = end
    return Pair(
        prompt=prompt,
        chosen=caption,
        rejected=rejected + caption[gap_start:],
        chosen_spans=tuple(spans[place] for place in places),
        rejected_spans=tuple(rejected_spans),
        notes={"injected": list(guides), "places": list(places), "sentences": len(spans)},
    )


OPENINGS = (
    "There is {}",
    "There is also {}",
    "There appears to be {}",
    "In the scene there is {}",
    "One can see {}",
    "You can also see {}",
    "It is possible to spot {}",
    "The picture also shows {}",
    "The image includes {}",
    "Visible in the picture is {}",
    "Nearby there is {}",
    "Next to it is {}",
    "In the background there is {}",
    "In the foreground there is {}",
    "To the left there is {}",
    "To the right there is {}",
    "A little further away is {}",
    "Close by stands {}",
    "At the edge of the picture is {}",
    "Somewhere in the middle is {}",
)
