"""Who is measured: the start, the trained policy, and every way to decode the start that needs no training.

Each arm is a model version and a way to decode; its captions come from the same driver, ledger and seeds as the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from vlm_selfalign.core.driver import Decoder, Driver
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.requests import Service
from vlm_selfalign.core.rows import Demo, Labelled
from vlm_selfalign.recipe import Run, vocabulary_of
from vlm_selfalign.samples import test_samples
from vlm_selfalign.scoring.sentences import split_sentences


@dataclass(frozen=True)
class Arm:
    """One way to answer. ``kind``: start, trained, round, sampled, curve or filter; ``sentences`` cuts greedy text."""

    name: str
    title: str
    kind: str
    role: str
    temperature: float = 0.0
    sentences: int | None = None
    filtered: bool = False
    probed: bool = False
    """Also asked the questions of all other probes."""
    round: int | None = None
    """After how many fits, of a version on the way."""


@dataclass
class Answers:
    """What an arm answered: captions and probe rows by sample id, and what it cost."""

    arm: Arm
    captions: dict[str, Demo] = field(default_factory=dict)
    items: dict[str, list[Labelled]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by kind that its captions took, remembered ones too."""
    calls: float | None = None
    seconds: float | None = None
    """Per sample; None where nothing of a kind was answered in this process, so that no rate is known."""


def plan(settings: Any) -> list[Arm]:
    """The arms of a run, by its ``measure`` settings."""
    measure = settings.measure
    arms = [
        Arm("start", "before training, greedy", "start", "policy@0", probed=True),
        Arm("trained", "after training, greedy", "trained", "policy", probed=True),
        Arm("trained_t1", "after training, sampled at T=1", "sampled", "policy", temperature=1.0),
    ]
    if "captions" not in measure.probes:
        return arms[:2]
    if measure.controls:
        arms += [
            Arm(f"start_t{t:g}", f"before, sampled at T={t:g}", "curve", "policy@0", temperature=t)
            for t in measure.temperatures
        ]
        arms += [
            Arm(f"start_cut{k}", f"before, cut after {k} sentence{'s' * (k > 1)}", "curve", "policy@0", sentences=k)
            for k in measure.sentences
        ]
    if measure.own_filter:
        arms.append(Arm("start_filter", "before, denied sentences left out", "filter", "policy@0", filtered=True))
    return arms


def rounds(run: Run) -> list[Arm]:
    """The versions between the start and the newest, asked all that those are asked: for curves over rounds."""
    versions = len(run.roles.versions.get("policy", ()))
    return [
        Arm(f"round{n}", f"after round {n}, greedy", "round", f"policy@{n}", probed=True, round=n)
        for n in range(1, versions - 1)
    ]


def answer_all(run: Run, arms: Sequence[Arm] | None = None) -> tuple[list[Sample], list[Answers]]:
    """All arms of the plan, or these, on the held-out samples."""
    samples = [sample.seeded(run.settings.seed, MEASURE_ROUND) for sample in test_samples(run.settings)]
    if not samples:
        raise UserError("nothing is held out to measure on: set measure.holdout or measure.data in a new run")
    answers: dict[str, Answers] = {}
    wanted = [*plan(run.settings), *rounds(run)] if arms is None else arms
    with tqdm(wanted, desc="measure", unit="arm") as bar:
        for arm in bar:
            if arm.sentences is not None:
                answers[arm.name] = _cut(answers["start"], arm)
            else:
                answers[arm.name] = _answer(run, arm, samples, bar)
    _count_costs(run, answers.values(), len(samples))
    return samples, list(answers.values())


FRAMES = 16
"""Frames a clip is shown with where the model's settings do not say."""

MEASURE_ROUND = -1
"""Stands where the round's number stands in a seed, so that measuring shares no chance with learning."""


class _Playing(Mapping[str, "Service | Decoder"]):
    """The run's roles with another player for ``policy``."""

    def __init__(self, roles: Mapping[str, Service | Decoder], policy: Service | Decoder, bare: Service | Decoder):
        self.roles, self.policy, self.bare = roles, policy, bare

    def __getitem__(self, role: str) -> Service | Decoder:
        return {"policy": self.policy, "bare": self.bare}.get(role) or self.roles[role]

    def __iter__(self) -> Iterator[str]:
        return iter({*self.roles, "policy", "bare"})

    def __len__(self) -> int:
        return len(set(self))


def _answer(run: Run, arm: Arm, samples: Sequence[Sample], bar: tqdm) -> Answers:
    bare = run.roles[arm.role]
    policy: Service | Decoder = bare
    if arm.filtered:
        decode = resolve("decoder", "own_filter").build({"vocabulary": vocabulary_of(run.settings)})
        policy = Decoder(decode, over="bare", identity="own_filter")
    driver = Driver(_Playing(run.roles, policy, bare), run.ledger, block=run.settings.block, between=run.stop.between)
    driver.told = lambda _, requests: bar.set_postfix_str(f"{arm.title}: {requests} answers")
    answers = Answers(arm)
    for name, settings in run.settings.measure.probes.items():
        if name == "captions":
            settings = {**settings, "temperature": arm.temperature} if arm.temperature else settings
            _ask(run, driver, _probe(run, name, settings, samples), samples, answers)
            answers.asked = Counter(driver.asked)
        elif arm.probed:
            _ask(run, driver, _probe(run, name, settings, samples), samples, answers)
    for part, seconds in driver.seconds.items():
        run.driver.seconds[part] += seconds
    run.driver.served.update(driver.served)
    return answers


def _count_costs(run: Run, answers: Iterable[Answers], samples: int) -> None:
    """Calls and seconds as if nothing had been remembered: arms share replies, and a shared reply is not free."""
    driver = run.driver
    for one in answers:
        if samples and one.asked and all(driver.served[kind] for kind in one.asked):
            one.calls = sum(one.asked.values()) / samples
            rates = {kind: driver.seconds[kind] / driver.served[kind] for kind in one.asked}
            one.seconds = sum(count * rates[kind] for kind, count in one.asked.items()) / samples


def _probe(run: Run, name: str, settings: Mapping[str, Any], samples: Sequence[Sample]) -> Callable[[Sample], Any]:
    plugin = resolve("probe", name, "measure.probes")
    given = dict(settings)
    if "vocabulary" in plugin.parameters:
        given.setdefault("vocabulary", vocabulary_of(run.settings))
    if "shown" in plugin.parameters:
        given.setdefault("shown", run.settings.model.media.frames or FRAMES)
    ask = plugin.build(given, f"measure.probes.{name}")
    if hasattr(ask, "survey"):
        survey = ask.survey(samples)
        return lambda sample: ask(sample, survey)
    return ask


def _ask(run: Run, driver: Driver, ask: Callable[..., Any], samples: Sequence[Sample], answers: Answers) -> None:
    with run.stop.in_batches():
        for block in driver.run(ask, samples):
            for finished in block:
                if finished.error:
                    raise RuntimeError(finished.error)
                for row in finished.rows:
                    if isinstance(row, Demo):
                        answers.captions[finished.sample.id] = row
                    else:
                        answers.items.setdefault(finished.sample.id, []).append(row)


def _cut(start: Answers, arm: Arm) -> Answers:
    cut = {}
    for sample, row in start.captions.items():
        spans = split_sentences(row.answer)[: arm.sentences]
        cut[sample] = row.model_copy(update={"answer": row.answer[: spans[-1][1]] if spans else ""})
    return Answers(arm, cut, asked=start.asked)
