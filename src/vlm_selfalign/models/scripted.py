"""Answers from a script: for tests, documents and methods tried by hand. A service like any other, without a model.

::

    Scripted({"Is there a cat?": "Yes", "Describe the image.": ["A cat.", "A cat and a dog."]})
    Scripted(lambda request: {"Yes": 0.9} if isinstance(request, Choose) else "A cat sits.")
    Scripted(["first reply", "second reply"])          # in the order asked
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlm_selfalign.core.requests import (
    Call,
    Choose,
    Chosen,
    Embed,
    Failed,
    Generate,
    Ground,
    Reply,
    Request,
    Score,
    Scored,
    Text,
    Value,
)

Script = Mapping[str, Any] | Callable[[Request], Any] | Sequence[Any]


class Scripted:
    """``core.requests.Service`` that answers from ``replies`` and keeps what it was asked.

    Args:
        replies: By question (the text of the last user turn; a tool's name for ``Call``, the text for ``Ground``), a
            function of the request, or a list to answer in order. Under a question, a list holds one entry per
            ``draw`` (the last repeats) and a function is called with the request.
        identity: Who it claims to be.
        batch_size: How many requests it claims to like at once.

    A scripted entry is a ``Reply``, or what is short for one: a text for ``Generate`` (the opening is put in front
    unless it is there), the choice or its probabilities (``{"Yes": 0.9}``, the rest shared by the others) for
    ``Choose``, a log-prob per word or one for all words for ``Score``, any JSON otherwise. No entry is ``Failed``.
    """

    def __init__(self, replies: Script, identity: str = "scripted", batch_size: int = 32) -> None:
        self._replies = replies
        self._identity = identity
        self._batch_size = batch_size
        self.requests: list[Request] = []
        """All that was asked, in order."""
        self.seeds: list[int] = []

    @property
    def identity(self) -> str:
        """As given."""
        return self._identity

    @property
    def batch_size(self) -> int:
        """As given."""
        return self._batch_size

    def serve(self, requests: Sequence[Request], seeds: Sequence[int]) -> list[Reply]:
        """Answer each request from the script."""
        replies = []
        for request, seed in zip(requests, seeds, strict=True):
            entry = self._entry(request)
            self.requests.append(request)
            self.seeds.append(seed)
            replies.append(_reply(request, entry))
        return replies

    def _entry(self, request: Request) -> Any:
        if callable(self._replies):
            return self._replies(request)
        if isinstance(self._replies, Mapping):
            entry = self._replies.get(_question(request))
            if isinstance(entry, list) and isinstance(request, Generate):
                entry = entry[min(request.draw, len(entry) - 1)] if entry else None
            return entry(request) if callable(entry) else entry
        told = len(self.requests)
        return self._replies[told] if told < len(self._replies) else None


def _question(request: Request) -> str:
    match request:
        case Generate() | Choose() | Score():
            return request.prompt.question
        case Ground():
            return request.text
        case _:
            return request.to


def _reply(request: Request, entry: Any) -> Reply:
    if isinstance(entry, Reply):
        return entry
    if entry is None:
        return Failed(reason=f"no scripted reply to {type(request).__name__} '{_question(request)}'")
    match request:
        case Generate():
            return _text(request, entry)
        case Choose():
            return _chosen(request, {entry: 1.0} if isinstance(entry, str) else dict(entry))
        case Score():
            words = len(request.answer.split()) + request.ends
            logprobs = [float(entry)] * words if isinstance(entry, (int, float)) else [float(value) for value in entry]
            return Scored(ids=tuple(range(len(logprobs))), logprobs=tuple(logprobs))
        case Ground() | Embed() | Call():
            return Value(value=entry)
    return Failed(reason=f"nothing scripted can answer {type(request).__name__}")


def _text(request: Generate, entry: Any) -> Text:
    told = dict(entry) if isinstance(entry, Mapping) else {"text": entry}
    if not isinstance(told.get("text"), str):
        raise TypeError(f"the script answers Generate with {entry!r}; give a text, a dict with 'text', or a Reply")
    if not told["text"].startswith(request.prompt.opening):
        told["text"] = request.prompt.opening + told["text"]
    return Text(**told)


def _chosen(request: Choose, probs: dict[str, float]) -> Chosen:
    unknown = set(probs) - set(request.choices)
    if unknown:
        raise ValueError(f"the script chooses {sorted(unknown)}, the request offers {list(request.choices)}")
    others = [choice for choice in request.choices if choice not in probs]
    rest = max(0.0, 1.0 - sum(probs.values()))
    shares = {**probs, **{choice: rest / len(others) for choice in others}}
    logprobs = tuple(math.log(shares[c]) if shares[c] > 0 else -math.inf for c in request.choices)
    return Chosen(choices=request.choices, logprobs=logprobs)
