"""What the pairs teach before anyone trains on them: is a falsehood on the wrong side, is a word always blamed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vlm_selfalign.report.numbers import known
from vlm_selfalign.report.plots import butterfly

LEAN = 0.2
"""A name leans when |chosen - rejected| is more than this share of both together ..."""
FEWEST = 20
"""... and it stands in at least this many places."""
FACTOR = 5
"""A falsehood must stand on the rejected side at least this many times as often as on the chosen side."""
SHOWN = 24
END = "(end)"


@dataclass(frozen=True)
class Audit:
    """The audit as the page shows it."""

    pairs: int
    chosen_false: float | None
    rejected_false: float | None
    names: tuple[tuple[str, int, int], ...]
    """(name, times chosen, times rejected), the end first, then the most frequent."""
    warnings: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """Names too rare for the plot."""
        return max(0, len(self.names) - SHOWN)

    def plot(self) -> Markup | None:
        """How often each name is chosen and rejected."""
        about = "How often each name and the end of the answer is chosen and rejected"
        return butterfly("audit", about, self.names[:SHOWN]) if self.names else None


def audit_of(found: Mapping[str, Any] | None) -> Audit | None:
    """The audit of ``metrics.json``, or None when no pairs were audited."""
    if not found:
        return None
    names = [(str(n["name"]), int(n["chosen"]), int(n["rejected"])) for n in found.get("names") or ()]
    names.sort(key=lambda name: (name[0] != END, -name[1] - name[2], name[0]))
    chosen, rejected = (found[side] if known(found, side) else None for side in ("chosen_false", "rejected_false"))
    warnings = (*_direction(chosen, rejected), *_leaning(names))
    return Audit(int(found.get("pairs") or 0), chosen, rejected, tuple(names), warnings)


def _direction(chosen: float | None, rejected: float | None) -> tuple[str, ...]:
    if chosen is None or rejected is None or rejected >= FACTOR * chosen:
        return ()
    return (
        f"Direction: falsehoods stand on the chosen side of {100 * chosen:.1f} % of the pairs and on the rejected side "
        f"of {100 * rejected:.1f} %; at least {FACTOR} times as many should be rejected, or training may reward them.",
    )


def _leaning(names: list[tuple[str, int, int]]) -> tuple[str, ...]:
    leaning = [n for n in names if n[1] + n[2] >= FEWEST and abs(n[1] - n[2]) > LEAN * (n[1] + n[2])]
    if not leaning:
        return ()
    leaning.sort(key=lambda name: -abs(name[1] - name[2]) / (name[1] + name[2]))
    worst = ", ".join(f"{name} ({chosen} : {rejected})" for name, chosen, rejected in leaning[:5])
    return (
        f"Unbalanced: {len(leaning)} of {len(names)} names are chosen and rejected unequally often, most of all "
        f"{worst} (chosen : rejected). A loss can then lower the word, or bring on the end, without any look at "
        "the picture.",
    )
