"""A model's own opinion of answers: is this one right, and which of two is better, asked both ways round."""

from __future__ import annotations

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import Choose
from vlm_selfalign.core.steps import Steps, ask, ask_all

RIGHT = "Question: {question}\nAnswer: {answer}\nIs this answer right?"
BETTER = "Question: {question}\nAnswer A: {first}\nAnswer B: {second}\nWhich answer is right, A or B?"


def says_right(prompt: Prompt, answer: str, to: str = "policy") -> Steps[float]:
    """P(yes) that the answer to the prompt's question is right, shown the same media."""
    asked = prompt.asking(RIGHT.format(question=prompt.question, answer=answer.strip()))
    reply = yield from ask(Choose(prompt=asked, to=to))
    return reply.prob("Yes")


def prefers(prompt: Prompt, one: str, other: str, to: str = "policy") -> Steps[tuple[float, float]]:
    """P(``one`` is better) when it stands first, and when it stands second.

    Judges favour a place (Zheng et al. 2023, MT-Bench): a preference that goes when the places change is none.
    """
    orders = ((one.strip(), other.strip()), (other.strip(), one.strip()))
    asked = [BETTER.format(question=prompt.question, first=first, second=second) for first, second in orders]
    replies = yield from ask_all(Choose(prompt=prompt.asking(text), choices=("A", "B"), to=to) for text in asked)
    return replies[0].prob("A"), replies[1].prob("B")


def against(first: float, second: float, threshold: float = 0.5) -> str:
    """Why two such probabilities are no preference, or nothing when they are one."""
    if first > threshold and second > threshold:
        return ""
    if first <= threshold and second <= threshold:
        return "own judge prefers the other answer"
    return "own judge goes by the position"
