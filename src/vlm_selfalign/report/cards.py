"""Model card and data card in Hugging Face's shape: what was done, what came of it beside the controls, the limits.

Facts about the run come from its directory; nothing is claimed that was not measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlm_selfalign.core.disk import write_atomic
from vlm_selfalign.core.rows import texts
from vlm_selfalign.report.audit import audit_of
from vlm_selfalign.report.flow import is_drawn, model_of, steps_of
from vlm_selfalign.report.folder import RunFolder
from vlm_selfalign.report.headline import Measured, headline
from vlm_selfalign.report.numbers import known, measure
from vlm_selfalign.report.render import as_yaml, render

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_cards(found: RunFolder) -> tuple[Path, Path]:
    """Write ``model_card.md`` and ``data_card.md`` into the run directory."""
    paths = found.path / "model_card.md", found.path / "data_card.md"
    for path, text in zip(paths, (_model_card(found), _data_card(found)), strict=True):
        write_atomic(path, text)
    return paths


def model_card(folder: str | Path) -> str:
    """The model card of a run as Markdown with a YAML header. Raises ``UserError`` when it is no run directory."""
    return _model_card(RunFolder(Path(folder)))


def data_card(folder: str | Path) -> str:
    """The data card of the rows a run made. Raises ``UserError`` when it is no run directory."""
    return _data_card(RunFolder(Path(folder)))


def _model_card(found: RunFolder) -> str:
    measured = Measured(found.metrics)
    versions = sorted(path.parent.relative_to(found.path) for path in found.path.glob("rounds/*/*/MANIFEST.json"))
    return render(
        "model_card.md",
        header=as_yaml(_model_header(found, measured)),
        measured=measured,
        headline=headline(measured),
        arms=[arm for arm in measured.arms if arm["kind"] != "curve"],
        versions=[str(version) for version in versions],
        limits=_limits(found, measured),
        **_shared(found),
    )


def _data_card(found: RunFolder) -> str:
    audit = audit_of(found.metrics.get("audit"))
    header = as_yaml(_data_header(found))
    return render("data_card.md", header=header, audit=audit, drops=found.drops, rows=found.rows, **_shared(found))


def _shared(found: RunFolder) -> dict[str, Any]:
    return {
        "config": found.config,
        "model": model_of(found.config),
        "drawn": is_drawn(found.config),
        "others": [(role, model_of({"model": model})) for role, model in (found.config.get("roles") or {}).items()],
        "steps": steps_of(found),
        "learnt": found.learnt,
        "samples": found.metrics.get("samples"),
    }


def _model_header(found: RunFolder, measured: Measured) -> dict[str, Any]:
    config = found.config
    name, model = str(config.get("name", "run")), model_of(config)
    header: dict[str, Any] = {
        "library_name": "peft" if (config.get("model") or {}).get("lora") else "transformers",
        "pipeline_tag": "image-text-to-text" if _shows_pictures(found) else "text-generation",
        "tags": ["vlm-selfalign", "self-training", f"recipe:{name}"],
    }
    # The shipped model and tiny random ones are no models of the hub.
    if "/" in model and not model.startswith((".", "/")):
        header["base_model"] = model
    results = _results(measured, name)
    if results:
        header["model-index"] = [{"name": name, "results": results}]
    return header


def _limits(found: RunFolder, measured: Measured) -> list[str]:
    limits = (
        [] if found.config.get("roles") else ["It learnt from itself alone: what it cannot see, it cannot correct."]
    )
    if is_drawn(found.config):
        limits.append("The pictures are drawn: a mechanism demonstrated on a synthetic world, nothing more.")
    if measured.arms:
        limits.append(ONE_RUN)
    if not (measured.envelope and known(measured.envelope)):
        limits.append("Not compared with the untrained model decoded otherwise at the same recall.")
    return [*limits, "The licence of the model it started from applies."]


ONE_RUN = "Intervals say how other samples would move these numbers; how another training seed would, one run cannot."


def _results(measured: Measured, name: str) -> list[dict[str, Any]]:
    if measured.trained is None:
        return []
    metrics = [
        {"type": key, "name": measure(key).title, "value": round(float(estimate["value"]), 6)}
        for key, estimate in measured.trained["measures"].items()
        if known(estimate)
    ]
    dataset = {"name": f"held-out samples of the run '{name}'", "type": "held-out"}
    return [{"task": {"type": "image-text-to-text"}, "dataset": dataset, "metrics": metrics}] if metrics else []


def _data_header(found: RunFolder) -> dict[str, Any]:
    total = sum(stage.count for stage in found.learnt)
    files: dict[str, list[str]] = {}
    for stage in found.rows:
        files.setdefault(stage.name, []).append(str(stage.path.relative_to(found.path)))
    return {
        "tags": ["vlm-selfalign", "synthetic", "preference-data"],
        "size_categories": [next((size for most, size in SIZES if total < most), "n>1M")],
        "configs": [{"config_name": name, "data_files": paths} for name, paths in files.items()],
    }


def _shows_pictures(found: RunFolder) -> bool:
    rows = (row for stage in found.learnt for row in stage.spread(1))
    return any(prompt.media for row in rows for prompt, _ in texts(row).values())
