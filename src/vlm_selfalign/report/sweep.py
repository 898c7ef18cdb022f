"""Gain against drift of several losses on the same pairs: a curve for each loss, not a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vlm_selfalign.report.numbers import known, measure
from vlm_selfalign.report.plots import AFTER, BEFORE, FILTER, INK, REJECTED, SOFT, THIRD, inline_svg
from vlm_selfalign.report.tradeoff import lower_envelope

FILE = "sweep.json"
COLOURS = (AFTER, REJECTED, FILTER, THIRD)
MARKERS = "osD^"
DRIFT = "kl_per_token"

Point = Mapping[str, Any]


def sweep_plot(sweep: Mapping[str, Any]) -> Markup | None:
    """The measure the run is judged by, and its recall, against the KL to the start; None without a point."""
    names = [n for n in (sweep["primary"], sweep["recall"]) if any(_placed(p, n) for p in sweep["points"])]
    if not names:
        return None

    def draw(figure: Figure) -> Mapping[str, str]:
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        tips: dict[str, str] = {}
        for axis, name in zip(axes, names, strict=True):
            tips |= _fill(axis, name, sweep)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.4)
        return tips

    losses = ", ".join(dict.fromkeys(point["loss"] for point in sweep["points"]))
    about = f"{' and '.join(measure(n).title for n in names)} against the KL to the start, for {losses}"
    return inline_svg("sweep", about, draw, width=4.8 * len(names), height=4.0)


def _fill(axis: Axes, name: str, sweep: Mapping[str, Any]) -> dict[str, str]:
    tips, scale = {}, 100 if measure(name).unit == "share" else 1
    sign = 1 if measure(name).better == "lower" else -1
    start = (sweep.get("start") or {}).get(name)
    for number, loss in enumerate(dict.fromkeys(point["loss"] for point in sweep["points"])):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        points = [p for p in sweep["points"] if p["loss"] == loss and _placed(p, name)]
        placed = [(p["measures"][DRIFT]["value"], scale * p["measures"][name]["value"]) for p in points]
        for place, ((x, y), point) in enumerate(zip(placed, points, strict=True)):
            gid = f"sweep-{name.replace('_', '-')}-{number}-{place}"
            found = point["measures"][name]
            ends = [[max(0.0, y - scale * found["low"])], [max(0.0, scale * found["high"] - y)]]
            axis.errorbar(x, y, yerr=ends, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.5)
            label = loss if place == 0 else "_"
            axis.plot(x, y, marker=marker, color=colour, markersize=5, linestyle="none", gid=gid, label=label)
            said = ", ".join(f"{key} {value:g}" for key, value in point["settings"].items())
            tips[gid] = f"{loss}, {said}: {measure(name).title} {y:.1f}, KL {x:.4f}"
        best = frontier([(x, sign * y) for x, y in [*placed, *([(0.0, scale * start["value"])] if start else [])]])
        axis.plot([x for x, _ in best], [sign * y for _, y in best], color=colour, linewidth=1.6)
    if start:
        axis.axhline(scale * start["value"], color=BEFORE, linewidth=0.9, linestyle=(0, (2, 2)))
        axis.plot(0, scale * start["value"], marker="o", color=BEFORE, markersize=6, linestyle="none", label="start")
    arrow = {"lower": "↓ better", "higher": "↑ better"}.get(measure(name).better or "", "")
    axis.set_title(f"{measure(name).title}{', %' if scale == 100 else ''}  {arrow}", color=INK)
    axis.set_xlabel("KL to the start, nats a token", color=SOFT)
    return tips


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """From the least drift on: the lower hull as far as it falls, since more drift for less gain is nobody's choice."""
    hull = lower_envelope(points)
    lowest = min(range(len(hull)), key=lambda i: (hull[i][1], hull[i][0]), default=-1)
    return hull[: lowest + 1]


def _placed(point: Point, name: str) -> bool:
    return all(known(point["measures"].get(one)) for one in (name, DRIFT))
