"""No training at all: answer greedily, ask yourself back about every object named, leave out what you deny.

The upper bound every recipe is shown against; it costs one short question per object and picture, always.
"""

from __future__ import annotations

from collections.abc import Callable

from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import decoder
from vlm_selfalign.core.requests import Generate, Text
from vlm_selfalign.core.steps import Steps, ask
from vlm_selfalign.scoring.self_check import check_kinds, examine, named_kinds
from vlm_selfalign.scoring.vocabulary import Vocabulary


@decoder
def own_filter(vocabulary: str = "world", threshold: float = 0.5) -> Callable[[Sample, Generate], Steps[Text]]:
    """The answer of the role the request goes to, without the sentences it denies when asked back."""
    words = Vocabulary.load(vocabulary)

    def decode(sample: Sample, request: Generate) -> Steps[Text]:
        answer = yield from ask(request)
        verdict = yield from check_kinds(request.prompt, named_kinds([answer.text], words), words, to=request.to)
        kept = [s.text for s in examine(answer.text, verdict, words, threshold) if not s.denied]
        return Text(text="".join(kept).strip(), finish=answer.finish)

    return decode
