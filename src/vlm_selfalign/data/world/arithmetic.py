"""Graded arithmetic with two-digit numbers: what a text model finds easy and what it finds hard is known beforehand.

======  ==========================================  ==========
level   what                                        difficulty
======  ==========================================  ==========
0       23 + 4, nothing to carry                    easy
1       23 + 45, nothing to carry                   easy
2       27 + 45, a ten to carry                     medium
3       42 - 17, a ten to borrow                    medium
4       23 * 4                                      hard
5       23 * 45                                     hard
======  ==========================================  ==========
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.seeds import digest, rng
from vlm_selfalign.data.world.scenes import SHARES, Split

WHAT_IS = "What is {problem}?"

LEVELS = range(6)
DIFFICULTY: tuple[Literal["easy", "medium", "hard"], ...] = ("easy", "easy", "medium", "medium", "hard", "hard")


@dataclass(frozen=True)
class Problem:
    """Two numbers and what to do with them: ``+``, ``-`` or ``*``."""

    first: int
    sign: str
    second: int

    def __str__(self) -> str:
        return f"{self.first} {self.sign} {self.second}"

    @property
    def answer(self) -> str:
        """The result in digits."""
        results = {"+": self.first + self.second, "-": self.first - self.second, "*": self.first * self.second}
        return str(results[self.sign])

    @property
    def question(self) -> str:
        """As it is asked."""
        return WHAT_IS.format(problem=self)

    def truth(self, level: int) -> dict[str, Any]:
        """Answer, level and difficulty, as JSON."""
        return {"answer": self.answer, "task": "arithmetic", "level": level, "difficulty": DIFFICULTY[level]}


@cache
def problems(level: int, split: Split = "train", seed: int = 0) -> tuple[Problem, ...]:
    """All problems of a level and split, each once, in an order that the seed decides; splits share none."""
    if level not in LEVELS:
        raise UserError(f"arithmetic: no level {level}; known: 0 to {LEVELS[-1]}")
    if split not in SHARES:
        raise UserError(f"arithmetic: no split '{split}'; known: {', '.join(SHARES)}")
    found = [one for one in _all(level) if int(digest("problem", str(one), size=4), 16) % 10 in SHARES[split]]
    rng("arithmetic", level, split, seed).shuffle(found)
    return tuple(found)


def _all(level: int) -> list[Problem]:
    two, one = range(10, 100), range(1, 10)
    if level == 0:
        return [Problem(a, "+", b) for a in two for b in one if a % 10 + b < 10]
    if level in (1, 2):
        carries = level == 2
        return [Problem(a, "+", b) for a in two for b in two if (a % 10 + b % 10 > 9) == carries and a + b < 100]
    if level == 3:
        return [Problem(a, "-", b) for a in two for b in two if a > b and a % 10 < b % 10]
    return [Problem(a, "*", b) for a in two for b in (one if level == 4 else two) if b > 1]
