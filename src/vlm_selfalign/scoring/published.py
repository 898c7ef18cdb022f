"""How the benchmarks' own scripts read answers, quirks included: only so are numbers those of their papers.

Each takes the answer and the question and gives the label it read, or None. They are looser or stricter than
``choices``, each in its way; what they do is a fact about published numbers, not advice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from vlm_selfalign.scoring.closed_questions import ClosedQuestion

Protocol = Literal["strict", "videohallucer", "tempcompass", "videomme", "mvbench"]

_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    # Two commas are missing in the script's list, so that these pairs are one prefix each, which nobody writes.
    "The best option isThe correct option is",
    "Best answer:Best option:",
)


def read_answer(answer: str, question: ClosedQuestion, protocol: Protocol = "strict") -> str | None:
    """The label an answer names under a protocol; None where it names none, or cannot be read."""
    return question.read(answer) if protocol == "strict" else _READERS[protocol](answer, question)


def leaves(label: str | None, protocol: Protocol) -> bool:
    """Whether such an answer is left out of the denominator (Video-MME); elsewhere it counts as wrong."""
    return label is None and protocol == "videomme"


def videohallucer(answer: str, question: ClosedQuestion) -> str | None:
    """Right if the right word stands anywhere as a word ("yes and no" is right twice; Wang et al. 2024)."""
    if re.search(rf"\b{re.escape(question.answer)}\b", answer, re.IGNORECASE):
        return question.answer
    other = {"yes": "no", "no": "yes"}.get(question.answer, "")
    return other if other and re.search(rf"\b{other}\b", answer, re.IGNORECASE) else None


def tempcompass(answer: str, question: ClosedQuestion) -> str | None:
    """The rules without a language model as judge (Liu et al. 2024); what they cannot match counts as wrong."""
    text = answer.replace("</s>", "")
    if not question.options:
        return next((word for word in ("yes", "no") if text.lower().startswith(word)), None)
    if " " in next(iter(question.options)):
        return _caption(text, question.options)
    for label, option in question.options.items():
        if text in (label, f"{label}. {option}") or text.startswith((f"{label}.", f"{label})")):
            return label
    return None


def _caption(text: str, options: Mapping[str, str]) -> str | None:
    after = text.split(") ")[1] if ") " in text else text
    found = None
    for label, option in options.items():  # the last match counts, an index over a sentence, as in the script
        if f"{label}: {option}" == text:
            found = label
    for label, option in options.items():
        if option in (text, after):
            found = label
    for label in options:
        if label in (text, text.replace(".", "")):
            found = label
    return found


def videomme(answer: str, question: ClosedQuestion) -> str | None:
    """The first capital A, B, C or D anywhere, some openings removed (Fu et al. 2025): "Based on it, C" is B."""
    text = answer.strip()
    for prefix in _PREFIXES:
        text = text.replace(prefix, "")
    found = re.search(r"[ABCD]", text)
    return found.group() if found else None


def mvbench(answer: str, question: ClosedQuestion) -> str | None:
    """Compares first words, either inside the other (Li et al. 2024): an empty answer, "(" and "a" are all right.

    The wrong label it might have named is not read; "" stands for any.
    """
    said = answer.lower().split(" ")[0]
    gold = f"({question.answer})".lower()
    return question.answer if said.replace(".", "") in gold or gold in said else ""


_READERS: dict[str, Callable[[str, ClosedQuestion], str | None]] = {
    "videohallucer": videohallucer,
    "tempcompass": tempcompass,
    "videomme": videomme,
    "mvbench": mvbench,
}
