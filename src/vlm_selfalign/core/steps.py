"""The one mechanism: a generator that yields requests and is sent replies.

Methods, decodings, judges and probes are all ``Steps``; they never see a batch, a cache or an error of a
neighbour. ::

    def run(sample):
        answer = yield from ask(Generate(prompt=sample.prompt))
        first, second = yield from together(check(answer.text), check("something else"))
        if not first:
            raise Drop("not sure of the answer")
        return [Demo(prompt=sample.prompt, answer=answer.text)]
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeVar

from vlm_selfalign.core.errors import RequestFailed
from vlm_selfalign.core.requests import Failed, Reply, Request

T = TypeVar("T")
Steps = Generator[Sequence[Request], Sequence[Reply], T]


def ask(request: Request) -> Steps[Any]:
    """Ask one thing and get its reply. Raises ``RequestFailed`` when there is none."""
    (reply,) = yield [request]
    return _checked(reply)


def ask_all(requests: Iterable[Request]) -> Steps[list[Any]]:
    """Ask many things at once; replies in the same order. Raises ``RequestFailed`` at the first without one."""
    asked = list(requests)
    if not asked:
        return []
    replies = yield asked
    return [_checked(reply) for reply in replies]


def together(*dialogues: Steps[Any]) -> Steps[list[Any]]:
    """Run sub-dialogues side by side, so that their requests share batches; their results in order.

    An exception of one (a ``Drop`` too) ends all.
    """
    results: list[Any] = [None] * len(dialogues)
    waiting: dict[int, list[Request]] = {}
    for index, steps in enumerate(dialogues):
        _advance(index, steps, None, waiting, results)
    while waiting:
        turn = list(waiting.items())
        replies = iter((yield [request for _, asked in turn for request in asked]))
        waiting = {}
        for index, asked in turn:
            _advance(index, dialogues[index], [next(replies) for _ in asked], waiting, results)
    return results


def _advance(
    index: int,
    steps: Steps[Any],
    replies: Sequence[Reply] | None,
    waiting: dict[int, list[Request]],
    results: list[Any],
) -> None:
    try:
        waiting[index] = list(next(steps) if replies is None else steps.send(replies))
    except StopIteration as done:
        results[index] = done.value


def _checked(reply: Reply) -> Reply:
    if isinstance(reply, Failed):
        raise RequestFailed(reply.reason)
    return reply
