"""What became of the candidates of pairs: how many passed every guard, why the others did not, how many spans vanished.

A stage that makes candidates and a fold that parts them (``accepted``, ``key_phrases``) leave rows and reasons; a rate
says more than a count: of a critic that praises nine answers in ten, few pairs are left to trust.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlm_selfalign.report.folder import RunFolder
from vlm_selfalign.report.numbers import DASH

FOLDS = ("accepted", "key_phrases")
VANISHED = "spans vanished"
"""How the reason begins for which a pair's differing spans were empty."""


@dataclass(frozen=True)
class Candidates:
    """One fold in one round: ``of`` rows came in, ``kept`` are pairs, the others left for ``reasons`` (text, count)."""

    title: str
    of: int
    kept: int
    reasons: tuple[tuple[str, int], ...]
    aligned: int | None
    """Pairs whose spans were aligned; None where a fold makes no spans."""
    vanished: int

    def share(self, count: int) -> str:
        """``12.5 %`` of all that came in."""
        return f"{100 * count / self.of:.1f} %" if self.of else DASH

    @property
    def vanished_share(self) -> str:
        """Of the pairs whose spans were aligned."""
        return f"{100 * self.vanished / self.aligned:.1f} %" if self.aligned else DASH


def candidates_of(found: RunFolder) -> list[Candidates]:
    """Every fold that parts candidates, round by round."""
    stages = found.config.get("stages") or {}
    counts = {(stage.round, stage.name): stage.count for stage in found.rows}
    parted = []
    for (number, name), kept in counts.items():
        fold = str((stages.get(name) or {}).get("fold", ""))
        if fold not in FOLDS:
            continue
        reasons = [(d["reason"], d["count"]) for d in found.drops if (d["round"], d["stage"]) == (number, name)]
        vanished = sum(count for reason, count in reasons if reason.startswith(VANISHED))
        changed = sum(count for reason, count in reasons if reason.endswith("of the words differ"))
        title = f"round {number}, {name}" if (found.config.get("rounds") or 1) > 1 else name
        aligned = kept + vanished + changed if fold == "key_phrases" else None
        whole = kept + sum(count for _, count in reasons)
        parted.append(Candidates(title, whole, kept, tuple(reasons), aligned, vanished))
    return parted
