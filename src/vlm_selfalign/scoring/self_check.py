"""The model checks its own words: each object it named is asked back as a yes/no question.

The judge is the model itself; long answers invent more than short ones to the same fact, so the short
question is the better witness (Self-Consistency as a Free Lunch, 2025; RLAIF-V, Yu et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import Choose, Generate, Sampling
from vlm_selfalign.core.rows import Span
from vlm_selfalign.core.steps import Steps, ask_all
from vlm_selfalign.scoring.claims import Claim
from vlm_selfalign.scoring.events import EventClaim
from vlm_selfalign.scoring.sentences import split_sentences
from vlm_selfalign.scoring.told import asked_back, event_of, read_told
from vlm_selfalign.scoring.vocabulary import Vocabulary

COLOUR = "What colour is the {kind}?"


@dataclass(frozen=True)
class Verdict:
    """What the model said when asked back: P(yes) per kind, and its own colour per kind (if asked)."""

    exists: dict[str, float]
    colours: dict[str, str]


@dataclass(frozen=True)
class Sentence:
    """One sentence of an own answer, with its characters (leading gap included) and what its check found."""

    text: str
    span: Span
    kinds: tuple[str, ...]
    denied: bool
    repeated: bool
    miscoloured: bool

    @property
    def clean(self) -> bool:
        """Nothing speaks against it."""
        return not (self.denied or self.repeated or self.miscoloured)

    @property
    def name(self) -> str:
        """What it is about, for counting: its kinds, or a dash."""
        return "+".join(self.kinds) or "-"


def draw_texts(prompt: Prompt, samples: int, sampling: Sampling) -> Steps[list[str]]:
    """The distinct finished answers among ``samples`` draws, in the order drawn; cut ones are left out."""
    drawn = yield from ask_all(Generate(prompt=prompt, draw=i, sampling=sampling) for i in range(samples))
    return list(dict.fromkeys(reply.text for reply in drawn if reply.finish == "end"))


def check_kinds(
    prompt: Prompt, kinds: Iterable[str], vocabulary: Vocabulary, *, colours: bool = False, to: str = "policy"
) -> Steps[Verdict]:
    """Ask back every kind once: does it exist, and (``colours``) which colour has it."""
    names, words = sorted(set(kinds)), vocabulary.event_words
    things = [name for name in names if colours and not (words and event_of(name, words))]
    palette = tuple(vocabulary.colours)
    asked = [Choose(prompt=prompt.asking(asked_back(name, words, vocabulary.place)), to=to) for name in names]
    if palette:
        asked += [Choose(prompt=prompt.asking(COLOUR.format(kind=kind)), choices=palette, to=to) for kind in things]
    replies = yield from ask_all(asked)
    exists = {kind: reply.prob("Yes") for kind, reply in zip(names, replies, strict=False)}
    return Verdict(exists, {kind: r.best for kind, r in zip(things, replies[len(names) :], strict=False)})


def examine(text: str, verdict: Verdict, vocabulary: Vocabulary, threshold: float = 0.5) -> list[Sentence]:
    """Split an own answer into sentences and mark those its own check speaks against.

    Denied: names a kind whose P(yes) is at most ``threshold``. Repeated: names only kinds that were named before.
    """
    claims = read_told(text, vocabulary, vocabulary.event_words)
    seen: set[str] = set()
    sentences = []
    for start, end in split_sentences(text):
        held = [claim for claim in claims if start <= claim.start < end and not claim.negated]
        sentences.append(_judge(text[start:end], (start, end), held, verdict, seen, threshold))
        seen.update(claim.kind for claim in held)
    return sentences


def _judge(
    text: str, span: Span, held: Sequence[Claim | EventClaim], verdict: Verdict, seen: set[str], threshold: float
) -> Sentence:
    kinds = tuple(dict.fromkeys(claim.kind for claim in held))
    return Sentence(
        text=text,
        span=span,
        kinds=kinds,
        denied=any(verdict.exists.get(kind, 1.0) <= threshold for kind in kinds),
        repeated=bool(kinds) and all(kind in seen for kind in kinds),
        miscoloured=any(c.colour is not None and verdict.colours.get(c.kind, c.colour) != c.colour for c in held),
    )


def named_kinds(texts: Iterable[str], vocabulary: Vocabulary) -> set[str]:
    """All kinds the texts claim to see."""
    told = (claim for text in texts for claim in read_told(text, vocabulary, vocabulary.event_words))
    return {claim.kind for claim in told if not claim.negated}
