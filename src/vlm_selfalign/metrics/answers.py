"""Short answers against the truth: POPE's yes/no questions, canaries (colour, count, existence), own contradictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vlm_selfalign.core.registry import metric
from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.scoring.choices import read_yes_no
from vlm_selfalign.scoring.mentions import NUMBERS

Protocol = Literal["official", "strict"]
YesNo = Literal["yes", "no"]

_WORD = re.compile(r"[a-z0-9]+(?:['\u2019][a-z]+)?")


@dataclass(frozen=True)
class Answered:
    """One question about a sample: the model's answer and the truth."""

    sample: str
    answer: str
    truth: str


def yes_or_no(answer: str, protocol: Protocol = "strict") -> YesNo | None:
    """What a yes/no answer says.

    ``official`` is POPE's script (Li et al. 2023): the text before the first period, commas removed, split at
    single blanks; a token ``No``, ``not`` or ``no`` means no and *everything else* yes: ``NO``, ``isn't`` and
    the empty answer too. ``strict`` is ``scoring.choices.read_yes_no``: the opening word if that is yes or no in any
    case, else the only one of the two among the words; None when there is neither or both.
    """
    if protocol == "official":
        tokens = answer.split(".")[0].replace(",", "").split(" ")
        return "no" if {"No", "not", "no"} & set(tokens) else "yes"
    return read_yes_no(answer)


def pope(rows: Sequence[Answered], protocol: Protocol = "strict") -> dict[str, Measure]:
    """POPE's accuracy, precision, recall, F1 and yes-ratio, "yes" the positive answer (Li et al. 2023).

    F1 = 2 TP / (2 TP + FP + FN), so it is a ratio of sums like the others. An answer that cannot be read is
    wrong and not a yes; ``unparsed`` says how many there were. A value without any denominator is None.
    """
    said = [yes_or_no(row.answer, protocol) for row in rows]
    counts: dict[str, list[tuple[float, float]]] = {name: [] for name in ("accuracy", "precision", "recall", "f1")}
    for row, answer in zip(rows, said, strict=True):
        yes, true = answer == "yes", row.truth.lower() == "yes"
        right = answer is not None and yes == true
        counts["accuracy"].append((right, 1))
        counts["precision"].append((yes and true, yes))
        counts["recall"].append((yes and true, true))
        counts["f1"].append((2 * (yes and true), yes + true))
    counts["yes_ratio"] = [(answer == "yes", 1) for answer in said]
    counts["unparsed"] = [(answer is None, 1) for answer in said]
    return {name: _measure(f"pope_{name}", rows, pairs, name == "unparsed", protocol) for name, pairs in counts.items()}


def accuracy(name: str, rows: Sequence[Answered], choices: Sequence[str] = ()) -> Measure:
    """Right answers over all answers. With ``choices`` the answer must name the right one and no other."""
    return _measure(name, rows, [(named(row.answer, choices) == _plain(row.truth), 1) for row in rows], False, "named")


def named(answer: str, choices: Sequence[str] = ()) -> str:
    """The only choice an answer names ("It is red." -> "red"), empty when none or several; numbers as digits.

    Without choices, the answer itself in lower case without marks.
    """
    if not choices:
        return _plain(answer)
    text = f" {_plain(answer)} "
    found = {_plain(choice) for choice in choices if f" {_plain(choice)} " in text}
    return found.pop() if len(found) == 1 else ""


def self_contradiction(rows: Iterable[tuple[str, Iterable[str], Mapping[str, str | None]]]) -> Measure:
    """Things a model describes and then denies when asked, over all described things it was asked about.

    Rows are (sample, kinds mentioned, answer "yes" / "no" / None by kind). Needs no truth, so it can be
    measured on anyone's pictures; it sees no error that a model sticks to.
    """
    items = []
    for sample, kinds, answers in rows:
        asked = [answer for kind in sorted(set(kinds)) if (answer := answers.get(kind)) is not None]
        items.append(Item(sample, sum(answer.lower() == "no" for answer in asked), len(asked)))
    return Measure.of("self_contradiction", items, True)


@metric
def pope_answers(protocol: Protocol = "strict") -> Callable[[Sequence[Answered]], dict[str, Measure]]:
    """POPE's metrics, from answered yes/no questions."""
    return lambda rows: pope(rows, protocol)


def _measure(
    name: str, rows: Sequence[Answered], pairs: Sequence[tuple[float, float]], lower_is_better: bool, protocol: str
) -> Measure:
    items = [Item(row.sample, float(num), float(den)) for row, (num, den) in zip(rows, pairs, strict=True)]
    return Measure.of(name, items, lower_is_better, protocol)


def _plain(text: str) -> str:
    words = (word for word in _WORD.findall(text.lower()) if word not in ("a", "an"))
    return " ".join(str(NUMBERS.get(word, word)) for word in words)
