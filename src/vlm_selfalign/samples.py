"""Which samples a run learns from and which it is measured on; the two never meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from vlm_selfalign.config import RunSettings, SourceSettings, shipped
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.seeds import seed_of

PLACES = 10_000

DRAWN = ("world", "worldclip", "worldtext", "arithmetic")
"""Sources that are made up on the spot and have a test split of their own."""

BY_SUFFIX = {".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}


class HeldOut:
    """The samples of a source whose ids hash into a share, or all others; in source order.

    A few samples may all miss a small share; then the one that came nearest is held out, so that there is one.
    """

    def __init__(self, source: Any, share: float, held_out: bool, limit: int | None = None) -> None:
        self.source = source
        self.share = share
        self.held_out = held_out
        self.limit = limit
        self._length: int | None = None

    @cached_property
    def _below(self) -> int:
        """Samples of a lower place are held out."""
        below = round(self.share * PLACES)
        if not self.share or any(_place(sample) < below for sample in self.source):
            return below
        return min(map(_place, self.source), default=0) + 1

    def __iter__(self) -> Iterator[Sample]:
        given = 0
        for sample in self.source:
            if (_place(sample) < self._below) == self.held_out:
                if self.limit is not None and given >= self.limit:
                    return
                given += 1
                yield sample

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length


def _place(sample: Sample) -> int:
    return seed_of("held out", sample.id) % PLACES


def training_samples(settings: RunSettings) -> Any:
    """The samples the stages see: iterable again and again, with a length.

    What is held out depends on ``measure.holdout`` alone, so that measuring later, or otherwise, finds it untouched.
    """
    if source_name(settings.data) not in DRAWN:
        return HeldOut(build_source(settings.data), settings.measure.holdout, held_out=False)
    split = settings.data.settings.get("split", "train")
    if split == "test":
        raise UserError("data.settings.split=test: test samples are measured on; learn from train or dev")
    return build_source(settings.data, split=split)


def test_samples(settings: RunSettings) -> Any:
    """The samples no stage sees."""
    measure = settings.measure
    if measure.data is not None:
        return build_source(measure.data.model_copy(update={"limit": measure.limit}))
    if source_name(settings.data) in DRAWN:
        return build_source(settings.data.model_copy(update={"limit": measure.limit}), split="test")
    return HeldOut(build_source(settings.data), measure.holdout, held_out=True, limit=measure.limit)


def left_out(samples: Any) -> Counter[str]:
    """How many entries of a source are no samples, by reason."""
    source = samples.source if isinstance(samples, HeldOut) else samples
    counts: Counter[str] = Counter(found[1] for found in getattr(source, "refused", ()))
    counts.update(getattr(source, "repeats", {}))
    return counts


def source_name(data: SourceSettings) -> str:
    """The source as set, or by what is at ``path``. Raises ``UserError`` when nothing is there."""
    own = data.path is not None and data.source in DRAWN  # a recipe's drawn samples give way to one's own
    if data.source != "auto" and not own:
        return data.source
    if data.path is None:
        return "world"
    path = located(data.path)
    if path.is_dir():
        is_dataset = (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()
        return "datasets" if is_dataset else "folder"
    if not path.exists():
        raise UserError(f"data.path={data.path}: no such file or folder")
    if path.suffix.lower() not in BY_SUFFIX:
        raise UserError(f"data.path={data.path}: expected a folder, .jsonl or .parquet; or name data.source")
    return BY_SUFFIX[path.suffix.lower()]


def located(path: str) -> Path:
    """A path as given, or, where nothing is, one of the files that ship beside the recipes."""
    beside = shipped("data_recipes").parent / path
    return beside if not Path(path).exists() and beside.exists() else Path(path)


def build_source(data: SourceSettings, **more: Any) -> Any:
    """The source itself, with what the run sets for it."""
    plugin = resolve("source", source_name(data), "data.source")
    path = str(located(data.path)) if data.path else None
    wanted = {"path": path, "limit": data.limit, "prompt": data.prompt}
    settings = {k: v for k, v in wanted.items() if v is not None and k in plugin.parameters}
    return plugin.build({**settings, **data.settings, **more}, "data.settings")
