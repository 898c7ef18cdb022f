"""Hallucination against recall: what training did, beside all that plain decoding of the untrained model reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vlm_selfalign.report.numbers import interval, known, measure, value
from vlm_selfalign.report.plots import AFTER, BEFORE, CURVE, FILTER, INK, SOFT, inline_svg

Arm = Mapping[str, Any]
X, Y = "x", "y"
Names = tuple[str, str]
"""The measures along x and y: recall and hallucination, of things or of events."""
LOOKS = {
    "start": (BEFORE, "o", 7.5),
    "curve": (CURVE, "o", 4.5),
    "sampled": (AFTER, "D", 4.5),
    "round": (AFTER, "v", 4.5),
    "filter": (FILTER, "s", 7.0),
    "trained": (AFTER, "o", 8.5),
}
"""Colour, marker and size by kind of arm."""


def lower_envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lower convex hull from left to right: at every x the least y on any segment between two points."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if hull and hull[-1][0] == x:
            continue
        while len(hull) > 1 and _above(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _above(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    return (middle[1] - left[1]) * (right[0] - left[0]) >= (right[1] - left[1]) * (middle[0] - left[0])


def tradeoff_plot(
    arms: Sequence[Arm], envelope: Mapping[str, Any] | None = None, names: Names = ("recall", "chair_i")
) -> Markup | None:
    """All arms on the left, the neighbourhood of the trained model on the right; None without two arms to place."""
    along = dict(zip((X, Y), names, strict=True))
    placed = [
        {**arm, "measures": {axis: arm["measures"][name] for axis, name in along.items()}}
        for arm in arms
        if all(known(arm["measures"].get(name)) for name in names)
    ]
    if len(placed) < 2:
        return None
    near = _neighbourhood(placed)

    def draw(figure: Figure) -> Mapping[str, str]:
        wide, close = figure.subplots(1, 2, width_ratios=(1, 1.25))
        tips = {**_fill(wide, placed, envelope, names, "wide"), **_fill(close, placed, envelope, names, "close")}
        wide.set_title("All arms")
        close.set_title("Near the trained model")
        close.set_xlim(*near[0])
        close.set_ylim(*near[1])
        wide.set_ylim(bottom=0)
        wide.add_patch(_frame(near))
        _label(close, placed, near)
        handles, labels = wide.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.4)
        return tips

    said = f"{measure(names[1]).title} against {measure(names[0]).title.lower()}"
    about = f"{said} for {len(placed)} arms, with 95 % intervals"
    return inline_svg("tradeoff", about, draw, width=9.6, height=4.4)


def _fill(
    axis: Axes, arms: Sequence[Arm], envelope: Mapping[str, Any] | None, names: Names, prefix: str
) -> dict[str, str]:
    untrained = [_place(arm) for arm in arms if arm["kind"] in ("start", "curve")]
    if len(untrained) > 1:
        x, y = zip(*lower_envelope(untrained), strict=True)
        axis.plot(x, y, color=CURVE, linewidth=1.6, label="untrained, lower envelope", zorder=2)
        axis.fill_between(x, y, 0, color=CURVE, alpha=0.08, linewidth=0)
    tips, named = {}, set()
    for place, arm in enumerate(arms):
        kind = arm["kind"] if arm["kind"] in LOOKS else "curve"
        gid, label = f"{prefix}-{place}", "_" if kind in named else KIND_NAMES[kind]
        _point(axis, arm, kind, label, gid)
        named.add(kind)
        tips[gid] = f"{arm['title']}: {_said(arm, Y, names[1])}, {_said(arm, X, names[0])}"
    if envelope and known(envelope, "value", "recall"):
        _mark_gap(axis, arms, envelope)
    axis.set_xlabel(f"{measure(names[0]).title.lower()}, %  →  better")
    axis.set_ylabel(f"{measure(names[1]).title}, %  ↓  better")
    return tips


KIND_NAMES = {
    "start": "before training",
    "curve": "untrained, other decodings",
    "sampled": "trained, sampled",
    "round": "on the way",
    "filter": "untrained, own filter",
    "trained": "trained",
}


def _point(axis: Axes, arm: Arm, kind: str, label: str, gid: str) -> None:
    colour, marker, size = LOOKS[kind]
    (x, y), strong = _place(arm), kind not in ("curve", "sampled", "round")
    axis.errorbar(
        x,
        y,
        xerr=_ends(arm, X),
        yerr=_ends(arm, Y),
        fmt="none",
        ecolor=colour,
        elinewidth=1.3 if strong else 0.8,
        alpha=1 if strong else 0.55,
        zorder=3,
    )
    hollow = {"markerfacecolor": "none"} if kind in ("sampled", "round") else {}
    shape: dict[str, Any] = {"marker": marker, "markersize": size, "color": colour, "linestyle": "none", **hollow}
    axis.plot(x, y, label=label, gid=gid, zorder=5 if strong else 4, **shape)


def _mark_gap(axis: Axes, arms: Sequence[Arm], envelope: Mapping[str, Any]) -> None:
    trained = next((_place(arm) for arm in reversed(arms) if arm["kind"] == "trained"), None)
    if trained is not None:
        x = 100 * envelope["recall"]
        y = 100 * envelope["control"] if known(envelope, "control") else trained[1] - 100 * envelope["value"]
        axis.plot([x, x], [trained[1], y], color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=2)
        axis.plot(x, y, marker="_", markersize=9, color=INK, linestyle="none", zorder=4)


def _label(axis: Axes, arms: Sequence[Arm], near: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """Names beside the few points that matter, and the temperature or length beside those of the curve."""
    (left, right), (bottom, top) = near
    taken: list[tuple[float, float]] = []
    for arm in sorted(arms, key=lambda arm: arm["kind"] not in ("start", "trained", "filter")):
        x, y = _place(arm)
        spot = (x - left) / (right - left), (y - bottom) / (top - bottom)
        crowded = any(abs(spot[0] - other[0]) < 0.16 and abs(spot[1] - other[1]) < 0.055 for other in taken)
        if not crowded and all(0 <= share <= 1 for share in spot):
            taken.append(spot)
            strong = arm["kind"] in ("start", "trained", "filter")
            text = KIND_NAMES[arm["kind"]] if strong else _short(arm)
            flip = x > left + 0.75 * (right - left)
            offset, side = ((-8, 5), "right") if flip else ((8, 5), "left")
            size, colour = (8.5, INK) if strong else (7.5, SOFT)
            axis.annotate(text, (x, y), offset, textcoords="offset points", ha=side, fontsize=size, color=colour)


def _short(arm: Arm) -> str:
    x = arm.get("x") or {}
    if x.get("sentences"):
        return f"cut {x['sentences']}"
    return f"T={x['temperature']:g}" if x.get("temperature") else ""


def strip_plot(name: str, levels: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Markup | None:
    """The compared arms (label, kind, estimate) with their intervals on one axis; None without two of them."""
    if len(levels) < 2:
        return None

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        scale = 100 if measure(name).unit == "share" else 1
        for place, (_, kind, estimate) in enumerate(levels):
            colour, marker, size = LOOKS[kind] if kind != "curve" else (INK, "|", 11.0)
            ends = _bar(estimate, scale)
            axis.errorbar(scale * estimate["value"], place, xerr=ends, fmt="none", ecolor=colour, elinewidth=2)
            axis.plot(scale * estimate["value"], place, marker=marker, markersize=size, color=colour, mew=1.8)
        axis.set_yticks(range(len(levels)), [label for label, _, _ in levels], color=INK)
        axis.set_ylim(len(levels) - 0.4, -0.6)
        axis.set_xlim(left=0)
        axis.set_xlabel(f"{measure(name).title}{', %' if scale == 100 else ''}")
        axis.grid(axis="y", visible=False)
        axis.spines["left"].set_visible(False)

    about = f"{measure(name).title} of {', '.join(label for label, _, _ in levels)}, with 95 % intervals"
    return inline_svg("strip", about, draw, width=5.4, height=0.62 + 0.27 * len(levels))


def _neighbourhood(arms: Sequence[Arm]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits that hold start, trained and filter with their intervals, and some room."""
    main = [arm for arm in arms if arm["kind"] in ("start", "trained", "filter")] or list(arms)
    limits = []
    for name in (X, Y):
        estimates = [arm["measures"][name] for arm in main]
        low = min(100 * (e["low"] if known(e, "low") else e["value"]) for e in estimates)
        high = max(100 * (e["high"] if known(e, "high") else e["value"]) for e in estimates)
        room = 0.25 * (high - low) or 1.0
        limits.append((low - room, high + room))
    (left, right), (_, top) = limits
    return (left, min(right, 100.5)), (0, top)


def _frame(near: tuple[tuple[float, float], tuple[float, float]]) -> Any:
    from matplotlib.patches import Rectangle

    (left, right), (bottom, top) = near
    return Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=SOFT, linewidth=0.7, zorder=1)


def _place(arm: Arm) -> tuple[float, float]:
    return 100 * arm["measures"][X]["value"], 100 * arm["measures"][Y]["value"]


def _ends(arm: Arm, name: str) -> list[list[float]] | None:
    return _bar(arm["measures"][name], 100)


def _bar(estimate: Mapping[str, Any], scale: float) -> list[list[float]] | None:
    if not known(estimate, "low", "high"):
        return None
    middle = estimate["value"]
    # A percentile interval may leave the value outside; a bar cannot have a negative length.
    return [[scale * max(0.0, middle - estimate["low"])], [scale * max(0.0, estimate["high"] - middle)]]


def _said(arm: Arm, axis: str, name: str) -> str:
    estimate = arm["measures"][axis]
    return f"{measure(name).title} {value(name, estimate)} {interval(name, estimate)}".strip()
