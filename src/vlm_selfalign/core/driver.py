"""Runs one method over many samples: thousands of suspended dialogues, few full batches.

Samples are taken in blocks, in their order. Inside a block the role and kind of request that most dialogues wait
for is served next, so what is batched with what is a pure function of sample order and replies: a killed run that
starts again replays its remembered batches whole and goes on with the very batch it was at. ::

    driver = Driver({"policy": service}, memory)
    for block in driver.run(blindfold(questions=3), samples):
        for finished in block:
            finished.rows or finished.drop
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vlm_selfalign.core.errors import Drop, UserError, nearest
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.requests import Failed, Generate, Reply, Request, Service
from vlm_selfalign.core.seeds import digest, seed_of
from vlm_selfalign.core.steps import Steps, together


class Memory(Protocol):
    """Remembers replies; the ledger on disk, or a dict that forgets."""

    def replies(self, sample_id: str) -> Mapping[str, Reply]:
        """All remembered replies of a sample by key."""
        ...

    def remember(self, batch: Sequence[tuple[str, str, Reply]]) -> None:
        """Keep (sample id, key, reply) triples; durable when it returns."""
        ...


class Forgetful:
    """A memory for what need not be kept: previews, and rollouts of a policy that changes every step."""

    def replies(self, sample_id: str) -> Mapping[str, Reply]:
        """Nothing is remembered."""
        return {}

    def remember(self, batch: Sequence[tuple[str, str, Reply]]) -> None:
        """Forget."""


@dataclass(frozen=True)
class Decoder:
    """A role that is answered by a decoding over another role.

    Each ``Generate`` to it becomes a sub-dialogue of the same sample, ``decode(sample, request)``, whose result is
    the reply; every other request goes to the role ``over`` as it is. The request a decoding is given is already
    addressed to ``over``: it asks ``request.to`` and knows no role by name.
    """

    decode: Callable[[Sample, Generate], Steps[Reply]]
    over: str
    identity: str


@dataclass
class Finished:
    """What became of a sample: its rows, or why it was dropped (``error``: the traceback when that was a bug)."""

    sample: Sample
    rows: list[Any] = field(default_factory=list)
    drop: str | None = None
    error: str | None = None


@dataclass
class _Dialogue:
    """One suspended method: what it asked, what it knows."""

    sample: Sample
    steps: Steps[list[Any]]
    known: dict[str, Reply]
    asked: list[tuple[str, Request]] = field(default_factory=list)
    finished: Finished | None = None

    def missing(self) -> dict[str, Request]:
        """Requests without a reply yet, each once, in the order asked."""
        return {key: request for key, request in self.asked if key not in self.known}


class Driver:
    """Answers the requests of a block of dialogues from memory and from ``services``, batch by batch."""

    def __init__(
        self,
        services: Mapping[str, Service | Decoder],
        memory: Memory | None = None,
        *,
        block: int = 1024,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self.services = services
        self.memory = memory or Forgetful()
        self.block = block
        self.between = between
        """Called between batches, when everything so far is durable; may raise ``Interrupted``."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        """Requests by kind that dialogues made, remembered ones too: what a method costs where nothing is known."""
        self.served: Counter[str] = Counter()
        """Requests by kind that were really answered, for ``seconds`` under the same name."""
        self.told: Callable[[int, int], None] = lambda finished, requests: None
        """Called after each batch: dialogues of the block that are finished, requests answered so far."""

    def run(self, method: Callable[..., Steps[list[Any]]], samples: Iterable[Sample]) -> Iterator[list[Finished]]:
        """Run the method over all samples; yields each block's outcomes in sample order."""
        for block in batched(samples, self.block):
            yield self.run_block(method, block)

    def run_block(self, method: Callable[..., Steps[list[Any]]], block: Sequence[Sample]) -> list[Finished]:
        """Run one block to its end."""
        dialogues = [self._open(method, sample) for sample in block]
        for dialogue in dialogues:
            self._advance(dialogue, first=True)
        while batch := self._next_batch(dialogues):
            self.between()
            self._serve(batch)
            for dialogue in {id(d): d for d, _, _ in batch}.values():
                self._advance(dialogue)
            self.told(sum(dialogue.finished is not None for dialogue in dialogues), sum(self.calls.values()))
        return [dialogue.finished for dialogue in dialogues if dialogue.finished]

    def key(self, sample: Sample, request: Request) -> str:
        """Who answers, for which sample, what; and the sample's seed when chance enters. Nothing else."""
        seed = sample.seed if request.draws else None
        return digest(self._service(request.to).identity, sample.id, _question(request), seed)

    def _open(self, method: Callable[..., Steps[list[Any]]], sample: Sample) -> _Dialogue:
        return _Dialogue(sample, self._begun(method, sample), dict(self.memory.replies(sample.id)))

    def _begun(self, method: Callable[..., Any], sample: Sample) -> Steps[Any]:
        """The method's dialogue, called inside it so that what it raises is its sample's; it may ask nothing."""
        steps = method(sample)
        return (yield from self._routed(steps, sample)) if isinstance(steps, Generator) else steps

    def _routed(self, steps: Steps[Any], sample: Sample) -> Steps[Any]:
        """The same dialogue, with requests to a decoded role answered by its sub-dialogue."""
        replies: Sequence[Reply] | None = None
        while True:
            try:
                asked = next(steps) if replies is None else steps.send(replies)
            except StopIteration as done:
                return done.value
            if any(isinstance(self._answerer(request.to), Decoder) for request in asked):
                replies = yield from together(*(self._route(request, sample) for request in asked))
            else:
                replies = yield asked

    def _route(self, request: Request, sample: Sample) -> Steps[Reply]:
        answerer = self._answerer(request.to)
        if not isinstance(answerer, Decoder):
            (reply,) = yield [request]
            return reply
        request = request.model_copy(update={"to": answerer.over})
        if not isinstance(request, Generate):
            return (yield from self._route(request, sample))
        try:
            return (yield from self._routed(answerer.decode(sample, request), sample))
        except Drop as dropped:
            return Failed(reason=dropped.reason)

    def _advance(self, dialogue: _Dialogue, first: bool = False) -> None:
        """Resume a dialogue for as long as everything it asks is known."""
        while dialogue.finished is None and (first or not dialogue.missing()):
            start = time.perf_counter()
            try:
                if first:
                    asked = next(dialogue.steps)
                else:
                    asked = dialogue.steps.send([dialogue.known[key] for key, _ in dialogue.asked])
                dialogue.asked = [(self.key(dialogue.sample, request), request) for request in asked]
                self.asked.update(type(request).__name__ for request in asked)
            except StopIteration as done:
                dialogue.finished = Finished(dialogue.sample, list(done.value or []))
            except Drop as dropped:
                dialogue.finished = Finished(dialogue.sample, drop=dropped.reason)
            except UserError:
                raise
            except Exception as bug:
                reason = f"error: {type(bug).__name__}: {bug}"
                dialogue.finished = Finished(dialogue.sample, drop=reason, error=traceback.format_exc())
            first = False
            self.seconds["method"] += time.perf_counter() - start
        if dialogue.finished:
            dialogue.known.clear()

    def _next_batch(self, dialogues: Sequence[_Dialogue]) -> list[tuple[_Dialogue, str, Request]]:
        """The role and kind most wait for, oldest first, up to that service's batch size."""
        waiting: dict[tuple[str, str], list[tuple[_Dialogue, str, Request]]] = {}
        for dialogue in dialogues:
            if dialogue.finished is None:
                for key, request in dialogue.missing().items():
                    waiting.setdefault((request.to, type(request).__name__), []).append((dialogue, key, request))
        if not waiting:
            return []
        role, kind = max(waiting, key=lambda bucket: (len(waiting[bucket]), bucket))
        return waiting[role, kind][: self._service(role).batch_size]

    def _serve(self, batch: Sequence[tuple[_Dialogue, str, Request]]) -> None:
        role = batch[0][2].to
        requests = [request for _, _, request in batch]
        seeds = [seed_of(d.sample.seed, d.sample.id, _question(request)) if request.draws else 0
                 for d, _, request in batch]  # fmt: skip
        start = time.perf_counter()
        replies = self._service(role).serve(requests, seeds)
        spent, kind = time.perf_counter() - start, type(requests[0]).__name__
        self.seconds[role] += spent
        self.seconds[kind] += spent
        self.calls[role] += len(requests)
        self.served[kind] += len(requests)
        if len(replies) != len(requests):
            raise RuntimeError(f"role '{role}' gave {len(replies)} replies to {len(requests)} requests")
        start = time.perf_counter()
        self.memory.remember([(d.sample.id, key, reply) for (d, key, _), reply in zip(batch, replies, strict=True)])
        self.seconds["ledger"] += time.perf_counter() - start
        for (dialogue, key, _), reply in zip(batch, replies, strict=True):
            dialogue.known[key] = reply

    def _answerer(self, role: str) -> Service | Decoder:
        try:
            return self.services[role]
        except KeyError:
            raise UserError(f"the role '{role}' is asked but nobody plays it{nearest(role, self.services)}") from None

    def _service(self, role: str) -> Service:
        answerer = self._answerer(role)
        if isinstance(answerer, Decoder):
            return self._service(answerer.over)
        return answerer


def _question(request: Request) -> tuple[Any, ...]:
    """A request without its role: whoever answers is named by identity, so equal players share replies."""
    return tuple(part for name, part in zip(("", *type(request).model_fields), Record.content(request), strict=True)
                 if name != "to")  # fmt: skip


def batched(samples: Iterable[Sample], size: int) -> Iterator[tuple[Sample, ...]]:
    """Blocks of ``size`` in order, the last one shorter (``itertools.batched``, which Python 3.11 lacks)."""
    iterator = iter(samples)
    while block := tuple(itertools.islice(iterator, size)):
        yield block
