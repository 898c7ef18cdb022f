"""One self-contained page per run: what came out of it, beside the controls, and all that led there.

    write_page("runs/mirror")       # runs/mirror/report.html, model_card.md and data_card.md

Nothing is fetched from anywhere, pictures and plots are inside; what a run has not (yet) is left out with a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_selfalign.core.disk import write_atomic
from vlm_selfalign.core.media import Media
from vlm_selfalign.report.audit import audit_of
from vlm_selfalign.report.candidates import candidates_of
from vlm_selfalign.report.cards import write_cards
from vlm_selfalign.report.clips import asked_of, parts_of, rounds_plot
from vlm_selfalign.report.flow import is_drawn, model_of, steps_of
from vlm_selfalign.report.folder import RunFolder
from vlm_selfalign.report.gallery import PAIRS, Card, caption_cards, cards
from vlm_selfalign.report.headline import Measured, headline, levels
from vlm_selfalign.report.numbers import known
from vlm_selfalign.report.pictures import Pictures
from vlm_selfalign.report.render import render
from vlm_selfalign.report.sweep import sweep_plot
from vlm_selfalign.report.tradeoff import strip_plot, tradeoff_plot
from vlm_selfalign.report.training import training_of


def write_page(folder: str | Path) -> Path:
    """Write ``report.html`` of a run directory, and its model and data cards beside it.

    Raises ``UserError`` when the folder is no run directory or a file in it is no JSON.
    """
    found = RunFolder(Path(folder))
    page = found.path / "report.html"
    write_atomic(page, render("page.html", **page_parts(found)))
    write_cards(found)
    return page


def page_parts(found: RunFolder) -> dict[str, Any]:
    """Everything the template shows, by name."""
    measured = Measured(found.metrics)
    pairs = cards(found.learnt, PAIRS, Pictures())
    return {
        "config": found.config,
        "drawn": is_drawn(found.config),
        "model": model_of(found.config),
        "steps": steps_of(found),
        "progress": found.progress,
        "measured": measured,
        "samples": found.metrics.get("samples"),
        "headline": headline(measured),
        "strip": strip_plot(measured.primary, levels(measured)),
        "tradeoff": tradeoff_plot(measured.arms, measured.envelope, (measured.recall, measured.primary or "chair_i")),
        "tables": _tables(measured),
        "divided": parts_of(found.metrics),
        "rounds": rounds_plot(measured),
        "asked": asked_of(found.metrics),
        "sweep": sweep_plot(found.sweep) if found.sweep else None,
        "candidates": candidates_of(found),
        "adjusted": any("p_holm" in row for row in measured.differences),
        "training": [training_of(log) for log in found.logs],
        "audit": audit_of(found.metrics.get("audit")),
        "captions": _captions(found.metrics, measured),
        "pairs": pairs,
        "groups": _groups(pairs),
        "drops": found.drops,
        "times": _times(found.metrics.get("seconds") or {}),
        "run": {key: found.run[key] for key in found.run if key not in ("config", "settings", "stages")},
    }


@dataclass(frozen=True)
class Table:
    """Some arms and the measures that any of them has; ``long`` puts the arms below each other."""

    arms: list[dict[str, Any]]
    measures: list[str]
    costs: bool
    long: bool


def _tables(measured: Measured) -> list[Table]:
    """The arms that matter, and the points of the untrained curve."""
    found = []
    for curve in (False, True):
        arms = [arm for arm in measured.arms if (arm["kind"] in ("curve", "round")) == curve]
        measures = [name for name in measured.measures if any(known(arm["measures"].get(name)) for arm in arms)]
        if measures:
            found.append(Table(arms, measures, any(arm["cost"] for arm in arms), curve))
    return found


def _captions(metrics: Mapping[str, Any], measured: Measured) -> list[Card]:
    captions = {arm: texts for arm, texts in (metrics.get("captions") or {}).items() if texts}
    titles = {arm["name"]: arm["title"] for arm in measured.arms}
    media = {
        sample: [Media.model_validate(one) for one in listed] for sample, listed in (metrics.get("media") or {}).items()
    }
    return caption_cards(captions, titles, media)


def _groups(pairs: list[Card]) -> list[tuple[str, int]]:
    """The filters of the gallery, with counts; none where there is nothing to choose."""
    groups = Counter(pair.group for pair in pairs)
    return sorted(groups.items()) if len(groups) > 1 else []


def _times(spent: Mapping[str, float]) -> list[tuple[str, list[tuple[str, float]]]]:
    """Seconds by stage and by part, longest first."""
    stages = {name.removeprefix("stage "): s for name, s in spent.items() if name.startswith("stage ")}
    parts = {name: s for name, s in spent.items() if not name.startswith("stage ")}
    groups = (("by stage (round/stage)", stages), ("by part", parts))
    return [(title, sorted(group.items(), key=lambda item: -item[1])) for title, group in groups if group]
