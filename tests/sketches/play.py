"""Plays a recipe on the core with scripted players, entirely in memory, and shakes it.

``check(show)`` is what every sketch must stand, whatever its algorithm: killed around any batch and started again,
in another order, window and batch size, and from a source with one more comment, it leaves the same rows and pays
for no reply twice. A ``Show`` is a recipe as a user writes it, its players, its samples and its fits.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import json
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vlm_selfalign.core.driver import Decoder, Driver, Forgetful, Memory
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.requests import REPLIES, Reply, Request, Service
from vlm_selfalign.core.rows import ROW, BaseRow, Origin
from vlm_selfalign.core.stages import Shaped, Stage, parse_stages

Answer = Callable[[Any, random.Random], Reply]
Fit = Callable[[list[Any], dict[str, Any]], Service]


class Scripted:
    """A player whose reply is a pure function of the request and, if it draws, of the request's own chance."""

    def __init__(self, answer: Answer, identity: str = "scripted", batch_size: int = 3) -> None:
        self.answer, self.identity, self.batch_size = answer, identity, batch_size
        self.asked: list[Request] = []

    def serve(self, requests: Sequence[Request], seeds: Sequence[int]) -> list[Reply]:
        assert len({type(request) for request in requests}) == 1, "one kind per batch"
        assert 0 < len(requests) <= self.batch_size
        self.asked += requests
        return [self.answer(request, random.Random(seed)) for request, seed in zip(requests, seeds, strict=True)]


class Killed(BaseException):
    """The power went."""


class Notebook:
    """Keeps replies as the JSON a disk would keep, so that a replayed reply has been through it."""

    def __init__(self) -> None:
        self.pages: defaultdict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        self.batches = 0
        self.paid = 0
        self.dies_at: int | None = None
        self.torn = False

    def replies(self, sample_id: str) -> dict[str, Reply]:
        return {key: REPLIES[kind].model_validate_json(text) for key, (kind, text) in self.pages[sample_id].items()}

    def remember(self, batch: Sequence[tuple[str, str, Reply]]) -> None:
        dies = self.batches == self.dies_at
        self.batches += 1
        self.paid += len(batch)
        if not (dies and self.torn):
            for sample_id, key, reply in batch:
                assert key not in self.pages[sample_id], "the same question was paid for twice"
                self.pages[sample_id][key] = (type(reply).__name__, reply.model_dump_json())
        if dies:
            raise Killed


@dataclass
class Show:
    """A recipe, who plays which role, over what; ``fits`` stand in for training by the name of the loss."""

    stages: Mapping[str, Any]
    players: Callable[[], dict[str, Service | Decoder]]
    samples: Sequence[Sample]
    fits: Mapping[str, Fit] = field(default_factory=dict)
    rounds: int = 1
    block: int = 4
    batch_size: int = 3
    memory: Memory = field(default_factory=Forgetful)


@dataclass
class Played:
    """What a show left: rows (or a fold's value) by round and stage, drops by reason, and what players were asked."""

    made: dict[tuple[int, str], Any] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    players: dict[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> list[Request]:
        players = {id(player): player for player in self.players.values() if isinstance(player, Scripted)}
        return [request for player in players.values() for request in player.asked]


def play(show: Show) -> Played:
    """Every stage of every round, as a recipe would run them."""
    played = Played()
    versions = {role: [player] for role, player in show.players().items()}
    latest: dict[str, Any] = {}
    for round_number in range(show.rounds):
        samples = [sample.seeded(7, round_number) for sample in show.samples]
        for stage in parse_stages(show.stages):
            if stage.runs_in(round_number):
                roles = _cast(versions, show.batch_size)
                played.players |= roles
                made = _stage(stage, round_number, show, samples, roles, latest, played.drops)
                if stage.kind == "fit":
                    versions.setdefault(stage.role, []).append(made)
                else:
                    latest[stage.name] = played.made[round_number, stage.name] = made
        played.players |= _cast(versions, show.batch_size)
    return played


def _cast(versions: Mapping[str, list[Any]], batch_size: int) -> dict[str, Any]:
    """Every role, its previous version ``@-1`` (itself when there is none) and its numbered ones."""
    roles: dict[str, Any] = {}
    for role, known in versions.items():
        roles |= {role: known[-1], f"{role}@-1": known[max(0, len(known) - 2)]}
        roles |= {f"{role}@{number}": player for number, player in enumerate(known)}
    for player in roles.values():
        if isinstance(player, Scripted):
            player.batch_size = batch_size
    return roles


def _stage(
    stage: Stage,
    round_number: int,
    show: Show,
    samples: Sequence[Sample],
    roles: dict[str, Any],
    latest: Mapping[str, Any],
    drops: Counter[str],
) -> Any:
    rows = [row for name in stage.rows for row in latest[name]]
    if stage.kind == "fit":
        return show.fits[stage.settings["loss"]](rows, roles)
    reads = [name for name in stage.reads if name not in stage.rows]
    run = stage.build(round_number)
    if stage.kind == "fold":
        shaped = run(rows, **{name: latest[name] for name in reads})
        drops.update(shaped.dropped if isinstance(shaped, Shaped) else {})
        shaped = shaped.rows if isinstance(shaped, Shaped) else shaped
        return _stored(list(shaped)) if isinstance(shaped, list | tuple) else json.loads(json.dumps(shaped))

    def of(sample: Sample, value: Any) -> Any:
        return [row for row in value if row.origin.sample == sample.id] if isinstance(value, list) else value

    made: list[BaseRow] = []
    driver = Driver(roles, show.memory, block=show.block)
    for block in driver.run(lambda sample: run(sample, **{name: of(sample, latest[name]) for name in reads}), samples):
        for finished in block:
            assert not finished.error, finished.error
            drops.update([finished.drop] if finished.drop else [])
            origin = Origin(sample=finished.sample.id, stage=stage.name, round=round_number)
            made += [r.model_copy(update={"origin": origin, "index": i}) for i, r in enumerate(finished.rows)]
    return _stored(sorted(made, key=lambda row: (row.origin.sample, row.index)))


def _stored(rows: Sequence[BaseRow]) -> list[Any]:
    """Rows as they come back from disk."""
    return [ROW.validate_json(row.model_dump_json()) for row in rows]


def check(show: Show, kills: int = 12) -> Played:
    """Play it calmly; then killed, shuffled, re-batched and edited; the same rows each time. The calm play."""
    memory = Notebook()
    calm = play(replace(show, memory=memory))
    assert calm.made and any(calm.made.values())
    _killed(show, calm, memory.batches, memory.paid, kills)
    _rearranged(show, calm)
    again = play(replace(show, memory=memory))
    assert (again.made, again.drops, again.asked) == (calm.made, calm.drops, [])
    assert play(replace(_edited(show), memory=memory)).asked == [], "a comment made it ask again"
    return calm


def _killed(show: Show, calm: Played, batches: int, paid: int, kills: int) -> None:
    """Die at remembering a batch, with it on disk or (torn) not, and go on with what is there."""
    places = range(batches) if batches <= kills else sorted(random.Random(0).sample(range(batches), kills))
    for torn, place in itertools.product((False, True), places):
        memory = Notebook()
        memory.dies_at, memory.torn = place, torn
        with pytest.raises(Killed):
            play(replace(show, memory=memory))
        after = play(replace(show, memory=memory))
        assert (after.made, after.drops) == (calm.made, calm.drops)
        assert memory.paid - paid <= (show.batch_size if torn else 0), "more than one batch was asked again"


def _rearranged(show: Show, calm: Played) -> None:
    for chance, (block, batch_size) in enumerate([(1, 1), (2, 64), (1000, 2), (1000, 1000)]):
        order = random.Random(chance).sample(list(show.samples), len(show.samples))
        other = play(replace(show, samples=order, block=block, batch_size=batch_size))
        assert (other.made, other.drops) == (calm.made, calm.drops)


def _edited(show: Show) -> Show:
    """The same show from a copy of its file with one more comment."""
    spec: Any = next(iter(show.stages.values()))
    module = sys.modules[(spec.get("method") or spec["fold"]).partition(":")[0]]
    copy = _copied(module)
    targets = json.dumps(dict(show.stages)).replace(f'"{module.__name__}:', f'"{copy.__name__}:')
    return replace(show, stages=json.loads(targets))


def _copied(module: ModuleType) -> ModuleType:
    path = Path(tempfile.mkdtemp()) / Path(str(module.__file__)).name
    path.write_text(inspect.getsource(module) + "\n# one more comment\n")
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_edited", path)
    assert spec and spec.loader
    copy = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = copy
    spec.loader.exec_module(copy)
    return copy


def scenes(*named: str, question: str = "Describe the image.", pictures: bool = True) -> list[Sample]:
    """Samples whose picture (its content hash, here) or, without pictures, whose system message says what there is."""
    if pictures:
        photos = [Media(kind="image", uri=f"{i}.png", content_hash=name) for i, name in enumerate(named)]
        return [Sample.of(Prompt.user(question, photo)) for photo in photos]
    return [Sample.of(Prompt.user(question, system=name)) for name in named]


def seen(prompt: Prompt) -> str:
    """What a scripted player sees: the picture's content, else the system message, else nothing."""
    if prompt.media:
        return prompt.media[0].content_hash
    return next((message.text for message in prompt.messages if message.role == "system"), "")
