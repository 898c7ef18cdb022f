"""What pairs teach before anyone trains on them: how often each side holds a falsehood, and each name stands on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlm_selfalign.core.rows import Pair
from vlm_selfalign.scoring.happenings import events_of, happened, knows_events
from vlm_selfalign.scoring.told import event_of, read_told
from vlm_selfalign.scoring.truth import kinds_of, objects_of
from vlm_selfalign.scoring.vocabulary import Vocabulary

SIDES = ("chosen", "rejected")
END = "(end)"


def audit(pairs: Sequence[Pair], truths: Mapping[str, Any], words: Vocabulary) -> dict[str, Any] | None:
    """Shares of the pairs whose sides name what is not there or tell what did not happen, and counts of every name.

    ``truths`` by sample; a sample without one is not judged, and without any the shares are None. None without pairs.
    """
    if not pairs:
        return None
    counts: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    false: Counter[str] = Counter()
    judged = 0
    for pair in pairs:
        truth = truths.get(pair.origin.sample)
        known = bool(objects_of(truth)) or knows_events(truth)
        judged += known
        for side in SIDES:
            names = _names(getattr(pair, side), words)
            stops = getattr(pair, f"{side}_ends") and not getattr(pair, side)
            counts[side].update(names or ({END} if stops else set()))
            false[side] += known and any(not holds(name, truth, words) for name in names)
    listed = sorted(set(counts["chosen"]) | set(counts["rejected"]))
    return {
        "pairs": len(pairs),
        **{f"{side}_false": false[side] / judged if judged else None for side in SIDES},
        "names": [{"name": n, **{side: counts[side][n] for side in SIDES}} for n in listed],
    }


def holds(name: str, truth: Any, words: Vocabulary) -> bool:
    """Whether what a name means is there or happened; what the truth says nothing of is taken to hold."""
    event = event_of(name, words.event_words) if words.event_words else None
    if event is None:
        return not objects_of(truth) or name in kinds_of(truth)
    assert words.event_words
    return not knows_events(truth) or happened(event, events_of(truth), words.event_words)


def _names(text: str, words: Vocabulary) -> set[str]:
    return {claim.kind for claim in read_told(text, words, words.event_words) if not claim.negated}
