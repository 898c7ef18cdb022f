"""What only a run on clips has: measures by length and number of frames, what it asks itself, curves over rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from vlm_selfalign.report.headline import Measured
from vlm_selfalign.report.numbers import known, measure
from vlm_selfalign.report.plots import AFTER, inline_svg

CURVES = (
    *("event_chair_i", "event_recall", "chair_i", "recall", "event_questions/both_right", "order_questions/both_right"),
    *("event_questions/yes_difference", "questions_answerable", "kl_per_token"),
)
"""What is drawn over rounds, where it was measured."""

MOST = 6
"""Panels."""


@dataclass(frozen=True)
class Parts:
    """One measure by length or number of frames; ``rows`` are (part, estimate by arm)."""

    measure: str
    by: str
    arms: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, Any]], ...]


def parts_of(metrics: Mapping[str, Any]) -> list[Parts]:
    """The tables, in the order they were measured."""
    listed: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for row in metrics.get("parts") or ():
        listed.setdefault((row["measure"], row["by"]), []).append((row["part"], row["arms"]))
    titles = {arm["name"]: arm.get("title") or arm["name"] for arm in metrics.get("arms") or ()}
    return [
        Parts(name, by, tuple(arm for arm in titles if any(arm in arms for _, arms in rows)), tuple(rows))
        for (name, by), rows in listed.items()
    ]


def asked_of(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(title of the arm, questions it asked itself by kind) of start and trained."""
    titles = {arm["name"]: arm.get("title") or arm["name"] for arm in metrics.get("arms") or ()}
    asked = metrics.get("asked") or {}
    return [(titles[name], asked[name]) for name in ("start", "trained") if name in asked and name in titles]


def rounds_plot(measured: Measured) -> Markup | None:
    """Measures of each version from the start to the last round; None without a version on the way."""
    between = [arm for arm in measured.arms if arm["kind"] == "round"]
    if not between or measured.start is None or measured.trained is None:
        return None
    arms = [measured.start, *sorted(between, key=lambda arm: arm["x"]["round"]), measured.trained]
    names = [n for n in CURVES if all(known(arm["measures"].get(n)) for arm in arms)][:MOST]
    if not names:
        return None
    columns = min(3, len(names))
    lines = -(-len(names) // columns)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis, name in zip(axes.flat, names, strict=False):
            _curve(axis, name, [arm["measures"][name] for arm in arms])
        for axis in list(axes.flat)[len(names) :]:
            axis.remove()

    about = f"{', '.join(measure(name).title for name in names)} after each round, with 95 % intervals"
    return inline_svg("rounds", about, draw, width=3.2 * columns, height=2.2 * lines)


def _curve(axis: Any, name: str, estimates: Sequence[Mapping[str, Any]]) -> None:
    scale = 100 if measure(name).unit == "share" else 1
    values = [scale * one["value"] for one in estimates]
    ends = [[scale * one[end] if known(one, end) else v for one, v in zip(estimates, values, strict=True)]
            for end in ("low", "high")]  # fmt: skip
    places = range(len(values))
    axis.fill_between(places, ends[0], ends[1], color=AFTER, alpha=0.15, linewidth=0)
    axis.plot(places, values, color=AFTER, marker="o", markersize=4)
    axis.set_title(f"{measure(name).title}{', %' if scale == 100 else ''}")
    axis.set_xticks(places)
    axis.set_xlabel("round", fontsize=8)
    axis.grid(axis="x", visible=False)
