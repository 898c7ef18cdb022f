"""The same clip described as it is and played backwards: whoever sees time tells one as the reverse of the other."""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import probe
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.core.steps import Steps, ask_all
from vlm_selfalign.scoring.event_words import EventWords
from vlm_selfalign.scoring.events import EventClaim, read_events
from vlm_selfalign.scoring.happenings import told_in_reverse
from vlm_selfalign.scoring.vocabulary import Vocabulary


@probe
def reversal(
    vocabulary: str = "world", words: str = "world", max_tokens: int = 128
) -> Callable[[Sample], Steps[list[Labelled]]]:
    """Per sample, how far its two greedy descriptions are each other's reverse (``told_in_reverse``); needs no truth.

    ``notes``: measure (reversal_agreement), num, den, backwards (what is told of the clip played backwards).
    """
    kinds, known = Vocabulary.load(vocabulary), EventWords.load(words)
    sampling = Sampling(max_tokens=max_tokens)

    def told(text: str) -> list[EventClaim]:
        return [claim for claim in read_events(text, kinds, known) if not claim.negated]

    def run(sample: Sample) -> Steps[list[Labelled]]:
        if not any(media.kind == "video" for media in sample.prompt.media):
            raise Drop("no clip to play backwards")
        prompts = sample.prompt, sample.prompt.viewed("reverse")
        forwards, back = yield from ask_all(Generate(prompt=prompt, sampling=sampling) for prompt in prompts)
        num, den = told_in_reverse(told(forwards.text), told(back.text), known)
        if not den:
            raise Drop("no event is told either way round")
        notes = {"measure": "reversal_agreement", "num": num, "den": den, "backwards": back.text}
        return [Labelled(prompt=sample.prompt, answer=forwards.text, label=num / den, notes=notes)]

    return run
