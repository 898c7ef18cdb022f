"""Everything a user can set, as frozen records that refuse what they do not know.

A recipe (``data_recipes/``) says what to learn from and how; a config (``configs/``) what to run it on. Both are
YAML of the same tree, merged left to right; ``key.path=value`` overrides come last, then the ``smoke`` section of
the recipe when ``size=smoke``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.registry import explain

STAGE_KINDS = {"method", "fold", "fit"}


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class LoraSettings(Settings):
    """Low-rank adapters (PEFT)."""

    r: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["language", "all"] | tuple[str, ...] = "language"
    """Linear layers of the language model, of everything, or module names."""
    acts: Literal["everywhere", "answers"] = "everywhere"
    """``answers``: only from where the chat template opens the answer; the prompt and its cache stay the base's."""

    @model_validator(mode="after")
    def _eyes_belong_to_the_prompt(self) -> LoraSettings:
        if self.acts == "answers" and self.targets == "all":
            raise ValueError("acts=answers goes with targets=language: what is seen belongs to the prompt")
        return self


class MediaSettings(Settings):
    """What a model is shown of pictures and clips, and how much at most. All but ``cache_mb`` change its identity."""

    frames: Annotated[int | None, Field(ge=1)] = None
    """Frames of a clip, evenly over its time; a shorter one has fewer. None: 16, or what ``fps`` says."""
    fps: Annotated[float | None, Field(gt=0)] = None
    """Instead of ``frames``: how many a second, ``max_frames`` at most."""
    max_frames: Annotated[int, Field(ge=1)] = 64
    """With ``fps``: a longer clip is sampled more thinly."""
    policy: Literal["middle", "left", "ends"] = "middle"
    """Where in its share of the time a frame is taken: the middle, its left end, or stretched from end to end."""
    backend: Literal["auto", "pyav", "decord", "torchcodec", "torchcodec:cuda"] = "auto"
    """What decodes clips; ``auto`` is PyAV."""
    on_damage: Literal["refuse", "keep"] = "refuse"
    """Clips with signs of damage: refused with a reason, or shown all the same."""
    max_pixels: Annotated[int | None, Field(ge=1)] = None
    """Of a picture or frame; larger ones are shrunk before the processor sees them. None leaves it to the processor."""
    max_visual_tokens: Annotated[int | None, Field(ge=1)] = None
    """Of a prompt. One of more is not answered and not learnt from, with a reason; None has no limit."""
    shrink: bool = False
    """Show a prompt over ``max_visual_tokens`` with fewer frames, then smaller pictures, instead of refusing it."""
    cache_mb: Annotated[int, Field(ge=0)] = 512
    """Decoded pictures and clips kept in memory for the next question about them, in MiB of this process."""

    @model_validator(mode="after")
    def _frames_or_fps(self) -> MediaSettings:
        if self.frames is not None and self.fps is not None:
            raise ValueError("give either frames or fps, not both")
        return self


class ModelSettings(Settings):
    """Which model answers and learns."""

    path: str = "embedded"
    """``embedded`` (ships with the package), a folder, or a hub id."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    quantize: Literal["4bit"] | None = None
    device: str = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of torch. None: one for models under 20 M parameters, whose small products gain nothing from a
    second and lose much when the machine has other work; torch's own number otherwise."""
    attention: str | None = None
    """transformers' ``attn_implementation``; None lets transformers choose."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Requests answered at once."""
    lora: LoraSettings | None = None
    """None trains full weights."""
    media: MediaSettings = MediaSettings()
    trust_remote_code: bool = False


class TrainingSettings(Settings):
    """What the machine allows while training; none of it changes what is learnt, but for rounding."""

    engine: Literal["auto", "plain"] = "auto"
    """``auto``: what texts share (pictures above all) is computed once, where that is known to give the same numbers
    and a check on the first rows agrees; ``plain``: every text by itself."""
    micro_batch: Annotated[int, Field(ge=1)] = 8
    """Rows per forward and process at most; gradients accumulate up to the fit's ``batch_size``."""
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    """Tokens per forward and process at most, padding counted, and what texts share once where it is computed once.
    A row that is over it by itself is dropped with a reason, never cut."""
    processes: Annotated[int, Field(ge=1)] = 1
    """More than one starts the fit under ``accelerate launch``."""
    accelerate_config: str | None = None
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps between checkpoints to resume from; 0 saves at the end only."""
    report_to: tuple[str, ...] = ()


class Schedule(Settings):
    """How a fit learns; these keys stand beside the loss's own in a fit stage."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    epochs: Annotated[float, Field(gt=0)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 16
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps."""
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Annotated[int | None, Field(ge=1)] = None
    """Rows of more tokens are dropped with a reason, never cut; None takes the model's own limit."""
    freeze: tuple[str, ...] = ("vision", "embeddings")
    """Parts that do not learn under full fine-tuning."""
    group: Literal["none", "media"] = "none"
    """``media``: rows that show the same share a step, so that it is seen once; ``none`` shuffles rows one by one."""


class SourceSettings(Settings):
    """Where samples come from."""

    source: str = "auto"
    """``auto``: the drawn world without a ``path``, else a folder, JSONL, Parquet or ``datasets`` by what is there."""
    path: str | None = None
    limit: Annotated[int | None, Field(ge=1)] = None
    prompt: str | None = None
    """What is asked about a picture or clip that brings no question of its own; None: to describe it."""
    vocabulary: str | None = None
    """Words that claims are read with: ``world``, ``coco``, ``open`` or a file; None: ``world`` for the drawn world,
    ``open`` (any noun) otherwise. Stages and probes with a ``vocabulary`` of their own keep it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The source's own settings."""


class MeasureSettings(Settings):
    """What is measured before and after, on samples no stage ever saw."""

    data: SourceSettings | None = None
    """None: what the run's own source holds out (the drawn world's test scenes, a share of anything else)."""
    limit: Annotated[int, Field(ge=1)] = 500
    """Samples measured at most."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the run's own samples kept from every stage, by the hash of their ids."""
    probes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Probe names and their settings."""
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
    """Sampling temperatures of the untrained model: points of the control curve."""
    sentences: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Lengths to which the untrained model's greedy text is cut: more points of the control curve."""
    own_filter: bool = True
    """Also score the untrained model with the sentences its own check denies left out."""
    controls: bool = True
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap draws."""


class RunSettings(Settings):
    """One whole run: recipe and config merged."""

    name: str = "run"
    about: str = ""
    """One sentence on what the recipe does; shown by ``recipes``."""
    out: str | None = None
    """The run directory; ``runs/<name>`` when None."""
    seed: int = 0
    size: Literal["full", "smoke"] = "full"
    rounds: Annotated[int, Field(ge=1)] = 1
    block: Annotated[int, Field(ge=1)] = 1024
    """Samples whose dialogues are open at once."""
    data: SourceSettings = SourceSettings()
    model: ModelSettings = ModelSettings()
    roles: dict[str, ModelSettings] = Field(default_factory=dict)
    """Other players by role (``judge``, ...); ``policy`` is ``model``."""
    training: TrainingSettings = TrainingSettings()
    stages: dict[str, dict[str, Any]]
    measure: MeasureSettings = MeasureSettings()

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.out or f"runs/{self.name}")


def load_settings(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> RunSettings:
    """Merge YAML files left to right, the ``smoke`` section when ``size=smoke``, then ``key.path=value`` overrides.

    Raises ``UserError`` with the file, the key's path and the nearest valid name.
    """
    merged: dict[str, Any] = {}
    for file in files:
        merged = merge(merged, read_yaml(find_yaml(file)))
    given: dict[str, Any] = {}
    for override in overrides:
        given = merge(given, parse_override(override))
    smoke = merged.pop("smoke", {}) or {}
    if merge(merged, given).get("size") == "smoke":
        merged = merge(merged, smoke)
    merged = merge(merged, given)
    merged.setdefault("name", Path(files[0]).stem if files else "run")
    return check_settings(merged)


def load_parts(parts: Sequence[str | Path]) -> RunSettings:
    """The same from one list as typed: what holds a ``=`` is an override, all else a YAML file or shipped name."""
    files = [part for part in parts if "=" not in str(part)]
    if not files:
        raise UserError("name a recipe first, for example 'mirror' or data_recipes/mirror.yaml")
    return load_settings(files, [str(part) for part in parts if "=" in str(part)])


def check_settings(tree: Mapping[str, Any]) -> RunSettings:
    """The frozen settings of a plain tree. Raises ``UserError`` with the path of the first wrong key."""
    try:
        return RunSettings.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, "", RunSettings)) from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key, anything else is replaced. A stage that changes its kind is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = value
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other_kind = STAGE_KINDS & old.keys() and STAGE_KINDS & value.keys() - old.keys()
            merged[key] = value if other_kind else merge(old, value)
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """``"stages.pairs.rate=.3"`` as a nested mapping; the value is read as YAML."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UserError(f"'{text}': expected key.path=value (or an existing YAML file)")
    tree: Any = yaml.safe_load(value) if value.strip() else None
    parts = path.strip().split(".")
    for part in reversed(parts[1:]):
        tree = {part: tree}
    return {parts[0]: tree}


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML mapping, read with the safe loader."""
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of settings, got {type(tree).__name__}")
    return tree


def find_yaml(name: str | Path) -> Path:
    """A file as given, or a shipped recipe or config by its path or bare name."""
    path = Path(name)
    if path.is_file():
        return path
    for folder in ("data_recipes", "configs"):
        for candidate in (shipped(folder) / f"{path.stem}.yaml",):
            if candidate.is_file() and str(path.parent) in {".", folder}:
                return candidate
    known = [file.stem for folder in ("data_recipes", "configs") for file in sorted(shipped(folder).glob("*.yaml"))]
    raise UserError(f"{name}: no such recipe or config{nearest(path.stem, known)}")


def shipped(folder: str) -> Path:
    """Where the recipes and configs of this package are: beside the source tree, or inside the installed wheel."""
    installed = Path(__file__).parent / "_shipped" / folder
    return installed if installed.is_dir() else Path(__file__).parents[2] / folder
