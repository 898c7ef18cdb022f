"""Mirror pairs: a sentence the model denies when asked back is rejected against what follows it; and, so that no
word and no early end is blamed for it, as many pairs in which *skipping* a confirmed sentence is rejected.

Ours. One-sided pairs teach "say that word less" and "stop sooner", not "look": where the prior's word is only ever
rejected its probability falls to zero even where the object is there. ``balance`` adds mirror pairs greedily until
every name, given the name before it, and the end of the answer are about as often chosen as rejected. ::

    candidates: {method: mirror_candidates, samples: 8}
    pairs:      {fold: balance, rows: candidates}
    policy:     {fit: span_dpo, rows: pairs, beta: 1}
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.requests import Sampling
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.core.stages import Shaped
from vlm_selfalign.core.steps import Steps
from vlm_selfalign.scoring.self_check import Sentence, check_kinds, draw_texts, examine, named_kinds
from vlm_selfalign.scoring.vocabulary import Vocabulary

END = "(end)"


@method
def mirror_candidates(
    samples: int = 8,
    temperature: float = 1.0,
    max_tokens: int = 128,
    vocabulary: str = "world",
    threshold: float = 0.5,
    colours: bool = True,
    repeats: bool = True,
) -> Callable[[Sample], Steps[list[Pair]]]:
    """Deletion pairs and possible mirror pairs of one sample (``notes.role``: deletion, repeat, mirror), one for each
    combination of the name before, the name chosen and the name rejected.

    ``repeats``: a sentence that only names again what was named is rejected like a denied one.
    ``threshold``: a kind is denied when the model's own P(yes) is at most this.
    """
    words = Vocabulary.load(vocabulary)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)

    def run(sample: Sample) -> Steps[list[Pair]]:
        texts = yield from draw_texts(sample.prompt, samples, sampling)
        kinds = named_kinds(texts, words)
        if not kinds:
            raise Drop("no claim in any own description")
        verdict = yield from check_kinds(sample.prompt, kinds, words, colours=colours)
        answers = [examine(text, verdict, words, threshold) for text in texts]
        pairs = [pair for answer in answers for pair in _pairs(sample.prompt, answer, repeats)]
        # Draws that differ in wording only would teach the same thing many times over.
        return list({tuple(pair.notes.values()): pair for pair in reversed(pairs)}.values())[::-1]

    return run


def _pairs(prompt: Prompt, answer: Sequence[Sentence], repeats: bool) -> Iterator[Pair]:
    def unwanted(sentence: Sentence) -> bool:
        return sentence.denied or (repeats and sentence.repeated)

    clean = all(sentence.clean for sentence in answer)
    kept: list[Sentence] = []
    for place, sentence in enumerate(answer):
        following = next((later for later in answer[place + 1 :] if not unwanted(later)), None)
        if unwanted(sentence):
            role = "deletion" if sentence.denied else "repeat"
            yield _pair(prompt, kept, chosen=following, rejected=sentence, role=role)
        elif clean and sentence.kinds:
            yield _pair(prompt, kept, chosen=sentence, rejected=following, role="mirror")
        if not unwanted(sentence):
            kept.append(sentence)


def _pair(
    prompt: Prompt, kept: Sequence[Sentence], chosen: Sentence | None, rejected: Sentence | None, role: str
) -> Pair:
    """Both sides go on from the same own words; no sentence means "stop here", and only then is the end scored."""
    before = kept[-1].name if kept else ""
    words = {side: (s.text if kept else s.text.lstrip()) if s else "" for side, s in (("c", chosen), ("r", rejected))}
    return Pair(
        prompt=prompt.opened("".join(s.text for s in kept).lstrip()),
        chosen=words["c"],
        rejected=words["r"],
        chosen_ends=chosen is None,
        rejected_ends=rejected is None,
        notes={
            "role": role,
            "before": before,
            "chosen": chosen.name if chosen else END,
            "rejected": rejected.name if rejected else END,
        },
    )


@fold
def balance(given_previous: bool = True, tolerance: int = 1) -> Callable[[Iterable[Pair]], Shaped]:
    """Keep every deletion and repeat pair; add mirror pairs, the most needed first, while they even out how often
    each name (``given_previous``: after each previous name) and the end are chosen and rejected.

    A mirror pair is added while its rejected name is ahead of its chosen name by more than ``tolerance``.
    """

    def run(rows: Iterable[Pair]) -> Shaped:
        fixed: list[Pair] = []
        mirrors: list[Pair] = []
        for row in rows:
            (mirrors if row.notes["role"] == "mirror" else fixed).append(row)
        lead: Counter[tuple[str, str]] = Counter()
        for row in fixed:
            _count(lead, row, given_previous)
        mirrors.sort(key=lambda row: (row.origin.sample, row.index))
        added = _add_greedily(mirrors, lead, given_previous, tolerance)
        kept = sorted([*fixed, *added], key=lambda row: (row.origin.sample, row.index))
        return Shaped(kept, {"mirror pair not needed for balance": len(mirrors) - len(added)})

    return run


def _add_greedily(
    mirrors: Sequence[Pair], lead: Counter[tuple[str, str]], given_previous: bool, tolerance: int
) -> list[Pair]:
    def need(row: Pair) -> int:
        chosen, rejected = _names(row, given_previous)
        return lead[rejected] - lead[chosen]

    # Leads only move apart slowly, so a stale heap entry is re-queued with its present need (lazy greedy).
    queue = [(-need(row), place) for place, row in enumerate(mirrors)]
    heapq.heapify(queue)
    added = []
    while queue:
        claimed, place = heapq.heappop(queue)
        current = need(mirrors[place])
        if current <= tolerance:
            continue
        if current < -claimed:
            heapq.heappush(queue, (-current, place))
            continue
        added.append(mirrors[place])
        _count(lead, mirrors[place], given_previous)
    return added


def _count(lead: Counter[tuple[str, str]], row: Pair, given_previous: bool) -> None:
    chosen, rejected = _names(row, given_previous)
    lead[chosen] += 1
    lead[rejected] -= 1


def _names(row: Pair, given_previous: bool) -> tuple[tuple[str, str], tuple[str, str]]:
    before = row.notes["before"] if given_previous else ""
    return (before, row.notes["chosen"]), (before, row.notes["rejected"])
