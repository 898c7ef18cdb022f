"""How a model is asked to revise its own answer, and what goes wrong: a critique that only praises, an answer that
talks of it.
"""

from __future__ import annotations

import re

from vlm_selfalign.scoring.consensus import plain
from vlm_selfalign.scoring.sentences import split_sentences
from vlm_selfalign.scoring.words import wordset

CRITICISE = (
    "Check this answer against the video. Say what is wrong: where things are, what happens in which order, what is "
    "not in the video, what is missing. If nothing is wrong, write: no errors."
)
REVISE = "Write the answer to the question again, without these errors. Write the answer alone."

_LEAD = re.compile(
    r"^\W*(?:sure|certainly|of course|okay|ok)?\W*(?:here(?: is|'s|\u2019s)\s+)?(?:(?:the|my|a|an)\s+)?"
    r"(?:(?:revised|corrected|improved|updated|final|new|better|rewritten)\s+)*"
    r"(?:answer|response|description|version|revision)\s*:\s*",
    re.IGNORECASE,
)
_TALK = re.compile(
    r"\b(?:(?:previous|original|initial|earlier|first|given|old|revised|corrected|improved|my)\s+"
    r"(?:answer|response|description|statement|version)|critique|feedback|your\s+(?:comment|point|correction)s?"
    r"|as\s+(?:you\s+)?(?:pointed\s+out|mentioned|noted)|i\s+(?:apologi[sz]e|have\s+(?:revised|corrected|rewritten))"
    r"|you(?:\s+are|'re|\u2019re)\s+right|thank\s+you)\b",
    re.IGNORECASE,
)
_NOTHING_WRONG = re.compile(
    r"\b(?:(?:no|without|free\s+of|not\s+any|n't\s+any)\s+(?:\w+\s+)?(?:errors?|mistakes?|problems?|issues?|"
    r"inaccurac(?:y|ies)|corrections?|hallucinations?)|nothing\s+(?:\w+\s+)?(?:wrong|missing|to\s+(?:correct|add|change))"
    r"|not\s+(?:wrong|incorrect|inaccurate))\b",
    re.IGNORECASE,
)
_PRAISE = re.compile(
    r"\b(?:correct|accurate|right|perfect|excellent|great|good|fine|flawless|precise|well\s+done|spot\s+on)\b",
    re.IGNORECASE,
)
_COMPLAINTS = wordset(
    "wrong incorrect incorrectly inaccurate inaccurately error errors mistake mistakes missing misses missed omits "
    "omitted not no never should instead however but except although hallucinated invented fails failed contradicts "
    "unclear vague false"
)


def only_praises(critique: str) -> bool:
    """Whether a critique finds nothing wrong: it says so or praises, and complains of nothing."""
    rest, nothing_wrong = _NOTHING_WRONG.subn(" ", critique)
    words = plain(rest).split()
    complains = any(word in _COMPLAINTS or word.endswith(("n't", "n\u2019t")) for word in words)
    return bool(nothing_wrong or _PRAISE.search(rest)) and not complains


def without_leakage(revision: str) -> str:
    """The revision without what opens it ("Revised answer:") and without sentences about answer or critique.

    Empty where nothing else is left.
    """
    text = _LEAD.sub("", revision.strip())
    kept = [text[start:end] for start, end in split_sentences(text) if not _TALK.search(text[start:end])]
    return "".join(kept).strip()


def times_as_long(one: str, other: str) -> float:
    """How many times as many words the longer of two texts has; infinite when one has none."""
    short, long = sorted((len(one.split()), len(other.split())))
    return long / short if short else float("inf")
