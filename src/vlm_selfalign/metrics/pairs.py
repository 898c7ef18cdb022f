"""Questions about clips that belong together: basic and hallucinated, forwards and backwards; and the lean to yes.

Items belong to clips; a pair that compares two clips belongs to both together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.metrics.items import Item, Measure
from vlm_selfalign.metrics.questions import Asked, protocol_of

SETS = ("object_relation", "temporal", "semantic_detail", "external_factual", "external_nonfactual")
"""VideoHallucer's sets that its headline is the mean of."""


def pairs(rows: Iterable[Asked]) -> list[list[Asked]]:
    """The questions that belong together, pair by pair; those without a partner are none.

    Raises ``UserError`` when a pair has two questions of one side: its answers would be counted as each other's.
    """
    found: dict[str, list[Asked]] = {}
    for row in rows:
        if row.question.pair:
            found.setdefault(row.question.pair, []).append(row)
    for name, pair in found.items():
        sides = [row.question.side for row in pair]
        if len(set(sides)) < len(sides):
            raise UserError(f"pair '{name}' has two questions of one side ({', '.join(sides)}); give them other pairs")
    return [pair for pair in found.values() if len(pair) > 1]


def both_right(rows: Sequence[Asked], name: str = "both_right") -> Measure:
    """Pairs with every question right over all pairs: VideoHallucer's overall (Wang et al. 2024)."""
    items = [Item(_clips(pair), float(all(row.right for row in pair)), 1) for pair in pairs(rows)]
    return Measure.of(name, items, protocol=protocol_of(rows))


def mean_of_sets(rows: Sequence[Asked], tag: str = "set", only: Sequence[str] = ()) -> Measure:
    """The plain mean over sets of their ``both_right``: VideoHallucer's headline, over ``SETS``.

    Each pair weighs one over the pairs of its set, so that this is a ratio of sums too.
    """
    found = [(pair[0].question.tags.get(tag, ""), pair) for pair in pairs(rows)]
    found = [(name, pair) for name, pair in found if not only or name in only]
    sizes = Counter(name for name, _ in found)
    items = [Item(_clips(pair), all(row.right for row in pair) / sizes[name], 1 / sizes[name]) for name, pair in found]
    return Measure.of("mean_of_sets", items, protocol=protocol_of(rows))


def hallucinated(rows: Sequence[Asked]) -> Measure:
    """Pairs whose second question is wrong over the pairs whose basic one is right: the fact is seen, and yet."""
    sides = [{row.question.side: row for row in pair} for pair in pairs(rows)]
    sides = [side for side in sides if {"basic", "hallucination"} <= side.keys() and side["basic"].right]
    items = [Item(_clips([*s.values()]), float(not s["hallucination"].right), 1) for s in sides]
    return Measure.of("hallucinated", items, True, protocol_of(rows))


def reversal_consistency(rows: Sequence[Asked]) -> Measure:
    """Questions asked of a clip forwards and backwards whose answers change as the truth does, over all such pairs.

    Where the truth turns the answer must turn, where it stays it must stay; two answers may be consistent and wrong.
    A pair with an answer that cannot be read is not consistent.
    """
    items = []
    for pair in pairs(rows):
        if {row.question.side for row in pair} == {"forwards", "backwards"}:
            (one, two), read = pair[:2], all(row.said is not None for row in pair)
            turns = one.question.meant(one.question.answer) != two.question.meant(two.question.answer)
            items.append(Item(_clips(pair), float(read and (one.meant != two.meant) == turns), 1))
    return Measure.of("reversal_consistency", items, protocol=protocol_of(rows))


def yes_bias(rows: Sequence[Asked], script: bool = False) -> dict[str, Measure]:
    """How far a model leans to yes, over all yes/no questions.

    ``yes_difference``: (yes said - yes right) / questions, 0 without bias; ``no_difference`` the same of no.
    ``false_positive_ratio``: wrong answers that are yes over all wrong answers, 1/2 without bias (HallusionBench, Guan
    et al. 2024; VideoHallucer, Wang et al. 2024). ``script`` repeats VideoHallucer's own script on pairs: where one
    question is wrong it counts the answer to the *other* one, so that its numbers are others.
    """
    found = _script_bias(rows) if script else _bias(rows)
    protocol = "script" if script else protocol_of(rows)
    return {
        name: Measure.of(name, items, name == "false_positive_ratio", protocol)
        for name, items in zip(("yes_difference", "no_difference", "false_positive_ratio"), found, strict=True)
    }


def _bias(rows: Sequence[Asked]) -> tuple[list[Item], list[Item], list[Item]]:
    found: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
    for row in rows:
        if not row.question.options:
            clip, gold = row.question.clip, row.question.answer
            found[0].append(Item(clip, (row.said == "yes") - (gold == "yes"), 1))
            found[1].append(Item(clip, (row.said == "no") - (gold == "no"), 1))
            found[2].append(Item(clip, float(not row.right and row.said == "yes"), float(not row.right)))
    return found


def _script_bias(rows: Sequence[Asked]) -> tuple[list[Item], list[Item], list[Item]]:
    found: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
    for pair in pairs(rows):
        sides = {row.question.side: row.right for row in pair}
        yes, no = sides.get("basic", False), sides.get("hallucination", False)
        clip = _clips(pair)
        found[0].append(Item(clip, yes + (not no and yes) - 1, 2))
        found[1].append(Item(clip, no + (not yes and no) - 1, 2))
        found[2].append(Item(clip, float(not no and yes), (not yes) + (not no)))
    return found


def _clips(pair: Sequence[Asked]) -> str:
    """The cluster of a pair: its clip, or both where it compares two."""
    return "+".join(sorted({row.question.clip for row in pair}))
