"""What a stage leaves behind: rows that training eats and folds read.

Every row has an ``origin`` (which sample, which stage, which round), an ``index`` within it, and ``notes``:
JSON that folds and the page read and training never does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.records import Record

Span = tuple[int, int]
"""Character range [start, end) of an answer."""


class Origin(Record):
    """Where a row came from; the driver fills it in."""

    sample: str = ""
    stage: str = ""
    round: int = 0


class BaseRow(Record):
    """What all rows share. ``v`` is the schema version on disk."""

    v: Literal[1] = 1
    origin: Origin = Origin()
    index: int = 0
    notes: dict[str, Any] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        """Unique in a run: stage, round, sample, index."""
        return f"{self.origin.stage}/{self.origin.round}/{self.origin.sample}/{self.index}"


class Demo(BaseRow):
    """Imitate this answer. ``ends``: is the end token learnt too."""

    kind: Literal["demo"] = "demo"
    prompt: Prompt
    answer: str
    ends: bool = True
    weight: float = 1.0


class Pair(BaseRow):
    """Prefer ``chosen`` to ``rejected``.

    Spans are the characters that differ on purpose (RRPO, span DPO); none means the whole answer.
    ``chosen_ends``: is the end token scored; ``chosen=""`` that ends is the answer "stop here".
    ``label_prob`` is the probability that the label is right, ``margin`` an offset to the logit.
    """

    kind: Literal["pair"] = "pair"
    prompt: Prompt
    chosen: str
    rejected: str
    rejected_media: tuple[Media, ...] | None = None
    chosen_spans: tuple[Span, ...] = ()
    rejected_spans: tuple[Span, ...] = ()
    chosen_ends: bool = True
    rejected_ends: bool = True
    label_prob: Annotated[float, Field(ge=0, le=1)] = 1.0
    weight: Annotated[float, Field(ge=0)] = 1.0
    margin: float = 0.0


class Group(BaseRow):
    """K answers to one prompt with their scores (listwise losses, best-of-N, many anchors)."""

    kind: Literal["group"] = "group"
    prompt: Prompt
    completions: tuple[str, ...]
    scores: tuple[float, ...]


class Labelled(BaseRow):
    """One answer and what it is worth; ``judgment`` is the words behind the label (CUT)."""

    kind: Literal["labelled"] = "labelled"
    prompt: Prompt
    answer: str
    label: float
    judgment: str | None = None


class Turn(Record):
    """One exchange of an episode."""

    prompt: Prompt
    answer: str
    ids: tuple[int, ...] = ()


class Episode(BaseRow):
    """Several turns, each with its own credit (SCoRe)."""

    kind: Literal["episode"] = "episode"
    turns: tuple[Turn, ...]
    rewards: tuple[float, ...]


Row = Annotated[Demo | Pair | Group | Labelled | Episode, Field(discriminator="kind")]
ROW: TypeAdapter[Row] = TypeAdapter(Row)


def texts(row: Row) -> dict[str, tuple[Prompt, str]]:
    """The (prompt, answer) texts of a row by name: what a loss may ask to have scored."""
    match row:
        case Demo() | Labelled():
            return {"answer": (row.prompt, row.answer)}
        case Pair():
            other = row.prompt
            if row.rejected_media is not None:
                other = row.prompt.model_copy(update={"media": row.rejected_media})
            return {"chosen": (row.prompt, row.chosen), "rejected": (other, row.rejected)}
        case Group():
            return {f"completion_{i}": (row.prompt, text) for i, text in enumerate(row.completions)}
        case Episode():
            return {f"turn_{i}": (turn.prompt, turn.answer) for i, turn in enumerate(row.turns)}
