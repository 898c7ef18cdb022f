"""Lists, verdicts and numbers out of what a model wrote; ``Drop`` with a reason when it cannot be read.

A failed parse is never a value: no default, no guess.
"""

from __future__ import annotations

import json
import re
from typing import Any

from vlm_selfalign.core.errors import Drop

_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):])\s+")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.S)


def parse_list(text: str, at_most: int | None = None) -> list[str]:
    """Items of a bulleted or numbered list, or non-empty lines where nothing is marked; duplicates once."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if _BULLET.match(line)]
    items = [_BULLET.sub("", line).strip() for line in marked or lines]
    unique = list(dict.fromkeys(item for item in items if item))
    if not unique:
        raise Drop("unparsed: expected a list, got nothing")
    return unique[:at_most]


def parse_json(text: str) -> Any:
    """The first JSON object or array of the text, fenced or not."""
    fenced = _FENCE.search(text)
    candidate = fenced.group(1) if fenced else text
    for start in (i for i, char in enumerate(candidate) if char in "{["):
        try:
            return json.JSONDecoder().raw_decode(candidate[start:])[0]
        except json.JSONDecodeError:
            continue
        except RecursionError:  # a model caught in a loop of brackets
            break
    raise Drop("unparsed: expected JSON")


def parse_yes_no(text: str) -> bool:
    """Whether the first word that is a yes or a no is a yes."""
    found = re.search(r"\b(yes|no)\b", text, re.I)
    if not found:
        raise Drop("unparsed: expected yes or no")
    return found.group(1).lower() == "yes"


def parse_number(text: str, low: float, high: float) -> float:
    """The only distinct number of the text, which must lie in [low, high]."""
    numbers = {float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w|\.\d)", text)}
    if len(numbers) != 1 or not low <= next(iter(numbers)) <= high:
        raise Drop(f"unparsed: expected one number from {low:g} to {high:g}")
    return numbers.pop()
