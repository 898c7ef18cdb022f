"""What a recipe is made of: named stages, ``Stage = Method | Fold | Fit``, repeated for rounds.

A stage is written as a mapping, so that every setting has an address (``stages.pairs.rate=.3``)::

    describe: {method: describe}
    graph:    {fold: cooccurrence, rows: describe}
    pairs:    {method: apasi, rate: {per_round: [.4, .2]}}
    policy:   {fit: dpo, rows: pairs}

A method's parameter named like an earlier stage receives it: this sample's rows if that stage made rows, its value
otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.registry import Plugin, resolve
from vlm_selfalign.core.seeds import digest

Kind = Literal["method", "fold", "fit"]


@dataclass(frozen=True)
class Shaped:
    """What a fold keeps, and how many rows left for which reason."""

    rows: Sequence[Any]
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One stage: its name, what it does, its raw settings, and which earlier stages it reads."""

    name: str
    kind: Kind
    plugin: Plugin[Any] | None
    settings: Mapping[str, Any]
    rows: tuple[str, ...] = ()
    role: str = ""
    in_rounds: tuple[int, ...] | None = None
    reads: tuple[str, ...] = ()

    def runs_in(self, round_number: int) -> bool:
        """Whether this round has the stage at all."""
        return self.in_rounds is None or round_number in self.in_rounds

    def at(self, round_number: int) -> dict[str, Any]:
        """The settings of one round: ``{per_round: [a, b]}`` resolved, the last repeating."""
        return {name: _at_round(value, round_number) for name, value in self.settings.items()}

    def having(self, **settings: Any) -> Stage:
        """The same stage with more settings."""
        return replace(self, settings={**self.settings, **settings})

    def build(self, round_number: int) -> Any:
        """The method or fold, ready to run."""
        assert self.plugin
        return self.plugin.build(self.at(round_number), f"stages.{self.name}")

    def key(self, round_number: int, *parts: object) -> str:
        """What decides the stage's outcome: name, round, settings, source, and whatever else is given."""
        assert self.plugin
        settings = self.plugin.filled(self.at(round_number))
        return digest(self.name, round_number, settings, self.plugin.source_hash, *parts)


def parse_stages(stages: Mapping[str, Any], roles: Sequence[str] = ()) -> list[Stage]:
    """Check a recipe's stages and put them in order. Raises ``UserError`` with the address of what is wrong."""
    parsed: list[Stage] = []
    for name, spec in stages.items():
        # YAML reads on, off, yes and no as booleans.
        if not isinstance(name, str) or name in {"on", "off", "yes", "no"} or not name.isidentifier():
            raise UserError(f"stages.{name}: a stage's name must be a plain word")
        if not isinstance(spec, Mapping):
            raise UserError(f"stages.{name}: expected a mapping like {{method: describe}}, got {spec!r}")
        parsed.append(_parse_stage(name, dict(spec), [stage.name for stage in parsed]))
    if not parsed:
        raise UserError("stages: a recipe needs at least one stage")
    _check_rounds(parsed)
    return parsed


def _check_rounds(stages: Sequence[Stage]) -> None:
    """What a stage reads must have been made by the first round it runs in."""
    first = {stage.name: min(stage.in_rounds or (0,)) for stage in stages}
    for stage in stages:
        for name in (*stage.rows, *stage.reads):
            if first[name] > first[stage.name]:
                raise UserError(
                    f"stages.{stage.name}: runs in round {first[stage.name]} and reads '{name}', "
                    f"which first runs in round {first[name]}; check in_rounds"
                )


def _parse_stage(name: str, spec: dict[str, Any], earlier: list[str]) -> Stage:
    where = f"stages.{name}"
    kinds = [kind for kind in ("method", "fold", "fit") if kind in spec]
    if len(kinds) != 1:
        raise UserError(f"{where}: needs exactly one of method, fold or fit, has {kinds or 'none'}")
    kind: Any = kinds[0]
    target = spec.pop(kind)
    rows = _names(spec.pop("rows", ()), f"{where}.rows", earlier)
    if kind != "fit" and "role" in spec:
        raise UserError(f"{where}.role: only a fit trains a role; a {kind} does not")
    if kind == "method" and rows:
        raise UserError(f"{where}.rows: a method names the stages it reads as parameters; 'rows' is for folds and fits")
    role = str(spec.pop("role", name if kind == "fit" else ""))
    in_rounds = spec.pop("in_rounds", None)
    if kind != "method" and not rows and "rollout" not in spec:
        raise UserError(f"{where}: a {kind} needs 'rows', the name of an earlier stage")
    if kind == "fit":
        spec = {"loss": target, **spec}
        return Stage(name, kind, None, spec, rows, role, _rounds(in_rounds, where))
    stage = Stage(
        name, kind, resolve(kind, str(target), f"{where}.{kind}"), spec, rows, role, _rounds(in_rounds, where)
    )
    return _with_reads(stage, earlier)


def _with_reads(stage: Stage, earlier: list[str]) -> Stage:
    listed = [value["per_round"] for value in stage.settings.values() if _is_per_round(value)]
    if not all(isinstance(values, (list, tuple)) and values for values in listed):
        raise UserError(f"stages.{stage.name}: per_round needs a list with one value per round, the last repeating")
    for round_number in range(1, max(map(len, listed), default=1)):
        stage.build(round_number)
    parameters = list(inspect.signature(stage.build(0)).parameters)[1:]
    for parameter in parameters:
        if parameter not in earlier:
            raise UserError(
                f"stages.{stage.name}: reads the stage '{parameter}', which no earlier stage provides"
                f"{nearest(parameter, earlier)}"
            )
    reads = tuple(dict.fromkeys((*stage.rows, *parameters)))
    return replace(stage, reads=reads)


def _names(value: Any, where: str, earlier: list[str]) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value)
    for name in names:
        if name not in earlier:
            raise UserError(f"{where}: no earlier stage called '{name}'{nearest(name, earlier)}")
    return names


def _rounds(value: Any, where: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, int) and item >= 0 for item in value):
        raise UserError(f"{where}.in_rounds: expected a list of round numbers like [0], got {value!r}")
    return tuple(value)


def _is_per_round(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"per_round"}


def _at_round(value: Any, round_number: int) -> Any:
    if _is_per_round(value):
        listed = list(value["per_round"])
        return listed[min(round_number, len(listed) - 1)]
    return value
