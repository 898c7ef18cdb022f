"""Pictures of numbers: matplotlib figures as inline SVG whose colours follow the page, light or dark.

A figure is drawn in stand-in colours; each becomes a CSS variable of the page (``var(--after)``), so that one drawing
serves both schemes and print.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STAND_INS = {
    name: f"#0{place:x}0{place:x}0{place:x}"
    for place, name in enumerate(
        ("ink", "soft", "line", "page", "before", "after", "filter", "curve", "chosen", "rejected", "third"), 1
    )
}
"""CSS variable of the page by the colour it is drawn in."""

INK, SOFT, LINE, PAGE, BEFORE, AFTER, FILTER, CURVE, CHOSEN, REJECTED, THIRD = STAND_INS.values()

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    # Names come from models: a pair of $ is no formula.
    "text.parse_math": False,
}


def inline_svg(
    name: str,
    about: str,
    draw: Callable[[Figure], Mapping[str, str] | None],
    width: float = 7.2,
    height: float = 3.2,
) -> Markup:
    """The SVG element that ``draw`` fills, sized in inches for its proportions; ``about`` is read out loud.

    ``draw`` may return hover texts by the gid of what they belong to.
    """
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        tips = draw(figure) or {}
        buffer = io.StringIO()
        nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return Markup(_inlined(buffer.getvalue(), about, tips))


def _inlined(svg: str, about: str, tips: Mapping[str, str]) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    view = re.search(r'viewBox="[^"]*"', svg)
    head = f'<svg {view.group() if view else ""} role="img" aria-label="{html.escape(about)}">'
    svg = head + svg[svg.index(">") + 1 :].replace("xlink:href", "href")
    for gid, text in tips.items():
        svg = svg.replace(f'<g id="{gid}">', f"<g><title>{html.escape(text)}</title>")
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found.group() if found.group(1) in used else "", svg)
    for css, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{css})")
    # One font for page and plots; only the sizes stay.
    svg = re.sub(r"font: (?:(\d+) )?([\d.]+px)[^;\"]*", lambda m: f"font-weight: {m[1] or 400}; font-size: {m[2]}", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def plain(text: str, most: int = 28) -> str:
    """A label that any font library takes: printable, valid Unicode, on one line, not too long."""
    text = "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "replace").decode("utf-8"))
    return text if len(text) <= most else text[: most - 1] + "…"


Curves = Sequence[tuple[str, Sequence[float], Sequence[float], str]]
"""(label, x, y, colour)."""


def small_multiples(name: str, about: str, panels: Sequence[tuple[str, Curves]], columns: int = 3) -> Markup:
    """One small plot per panel (title, curves): a thin line for what was logged, a thick one for its running mean."""
    rows = -(-len(panels) // columns)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, panel in zip(axes.flat, panels, strict=False):
            _panel(axis, *panel)
        for axis in list(axes.flat)[len(panels) :]:
            axis.remove()

    return inline_svg(name, about, draw, height=2.2 * rows, width=9.6)


def _panel(axis: Axes, title: str, curves: Curves) -> None:
    axis.set_title(title)
    axis.set_xlabel("step", fontsize=8)
    axis.grid(axis="x", visible=False)
    axis.locator_params(nbins=5)
    for label, x, y, colour in curves:
        window = max(1, len(y) // 25)
        if window > 1:
            axis.plot(x, y, color=colour, linewidth=0.6, alpha=0.35)
        marker = "o" if len(y) == 1 else ""
        axis.plot(x, running_mean(y, window), color=colour, label=label, marker=marker, markersize=3)
    if len(curves) > 1:
        axis.legend(handlelength=1.2, borderaxespad=0.2, labelspacing=0.25)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and up to ``window - 1`` before it."""
    total, means = 0.0, []
    for place, value in enumerate(values):
        total += value - (values[place - window] if place >= window else 0.0)
        means.append(total / min(window, place + 1))
    return means


def butterfly(name: str, about: str, names: Sequence[tuple[str, int, int]]) -> Markup:
    """Bars to the left for how often each name is rejected and to the right for how often it is chosen."""

    def draw(figure: Figure) -> Mapping[str, str]:
        axis, tips, places = figure.subplots(), {}, range(len(names))
        most = max(chain.from_iterable((chosen, rejected) for _, chosen, rejected in names), default=1) or 1
        for place, (label, chosen, rejected) in enumerate(names):
            bars = (
                axis.barh(place, chosen, color=CHOSEN, height=0.68),
                axis.barh(place, -rejected, color=REJECTED, height=0.68),
            )
            for side, (bar,) in zip(("chosen", "rejected"), bars, strict=True):
                bar.set_gid(f"{name}-{place}-{side}")
                tips[f"{name}-{place}-{side}"] = f"{label}: {chosen} times chosen, {rejected} times rejected"
            axis.text(chosen + most * 0.015, place, str(chosen), va="center", fontsize=8, color=SOFT)
            axis.text(-rejected - most * 0.015, place, str(rejected), va="center", ha="right", fontsize=8, color=SOFT)
        axis.set_yticks(places, [plain(label) for label, _, _ in names], color=INK)
        axis.set_xlim(-1.12 * most, 1.12 * most)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_xticks([])
        axis.grid(visible=False)
        for side in ("bottom", "left"):
            axis.spines[side].set_visible(False)
        for at, side, words in ((-0.03, "right", "← times rejected"), (0.03, "left", "times chosen →")):
            axis.text(at * most, -0.75, words, ha=side, fontsize=8.5, color=SOFT)
        return tips

    return inline_svg(name, about, draw, width=6.4, height=0.6 + 0.25 * len(names))
