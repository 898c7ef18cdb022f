"""What every source gives: samples to iterate over, how many, and what was left out and why.

An entry is kept small (a million of them fit); its ``Sample`` is made when it is asked for.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, NamedTuple, overload

from pydantic import Field

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.seeds import digest

Limit = Annotated[int | None, Field(ge=1)]
MaxBad = Annotated[float, Field(ge=0, le=1)]

REPEATED = "the same content as an earlier one"
DESCRIBE = {"image": "Describe the image.", "video": "Describe the video."}
"""What is asked where nothing is said, by kind."""

_pack = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Entry(NamedTuple):
    """One sample to be: the question, its pictures and clips (without views), what is true, the user's own id."""

    prompt: str
    media: tuple[Media, ...] = ()
    truth: Any = None
    name: str | None = None

    def sample(self) -> Sample:
        """The sample; its id is the prompt's digest, after the user's own id where there is one.

        The digest stays in the id because what is remembered about a sample must not outlive its content.
        """
        sample = Sample.of(Prompt.user(self.prompt, *self.media), self.truth)
        return sample if self.name is None else sample.model_copy(update={"id": f"{self.name}.{sample.id[:16]}"})

    @property
    def key(self) -> bytes:
        """Equal for entries that ask the same of the same content under the same name."""
        return bytes.fromhex(digest(self.prompt, tuple(m.content() for m in self.media), self.name))


class Refusal(NamedTuple):
    """What looked like a sample and cannot be used: a path or file:line, and why."""

    where: str
    reason: str
    """The same words for everything with this fault, so that it can be counted."""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class Entries(Sequence[Entry]):
    """Entries packed: under 150 bytes for a picture and its path."""

    def __init__(self) -> None:
        self._prompts: list[str] = []  # mostly one text, shared by all
        self._rest: list[bytes] = []

    def append(self, entry: Entry) -> None:
        """Add one; its truth must be JSON."""
        shown = [[m.kind, m.uri, m.content_hash, *((m.start, m.end) if m.start or m.end else ())] for m in entry.media]
        self._prompts.append(entry.prompt)
        self._rest.append(_pack([shown, entry.truth, entry.name]).encode("utf-8", "surrogatepass"))

    def __len__(self) -> int:
        return len(self._rest)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        shown, truth, name = json.loads(self._rest[index].decode("utf-8", "surrogatepass"))
        return Entry(self._prompts[index], tuple(_media(*one) for one in shown), truth, name)


def _media(kind: Any, uri: str, content_hash: str, start: float | None = None, end: float | None = None) -> Media:
    return Media(kind=kind, uri=uri, content_hash=content_hash, start=start, end=end)


@dataclass
class Listing:
    """The samples of a source in a fixed order, with the account of what is not among them."""

    where: str
    """The path as the user gave it, for messages."""
    entries: Entries = field(default_factory=Entries)
    refused: list[Refusal] = field(default_factory=list)
    """Everything that looked like a sample and cannot be used."""
    repeats: Counter[str] = field(default_factory=Counter)
    """How many entries were left out because of an earlier one, by reason."""
    alike: list[tuple[str, ...]] = field(default_factory=list)
    """Addresses of pictures that look alike, group by group; none of them is left out on that account."""

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Sample]:
        return (entry.sample() for entry in self.entries)

    def __getitem__(self, index: int) -> Sample:
        return self.entries[index].sample()

    def take(self, found: Iterable[Entry | Refusal], limit: int | None) -> Listing:
        """Add what is found up to ``limit`` entries in all; what asks the same again is counted."""
        seen: set[bytes] = set()
        for one in found:
            if isinstance(one, Refusal):
                self.refused.append(one)
            elif (key := one.key) in seen:
                self.repeats[REPEATED] += 1
            else:
                seen.add(key)
                self.entries.append(one)
                if len(self.entries) == limit:
                    break
        return self

    def checked(self, max_bad: float) -> Listing:
        """Itself, unless more than ``max_bad`` of all entries cannot be used, or none can: then ``UserError``."""
        bad, total = len(self.refused), len(self.refused) + len(self.entries) + self.repeats.total()
        if self.entries and bad <= max_bad * total:
            if bad:
                warnings.warn(f"{self.where}: {bad} of {total} left out; first: {self._first(1)}", stacklevel=2)
            return self
        if not total:
            raise UserError(f"{self.where}: holds no rows; give one JSON object or table row per sample")
        advice = "correct them" if not self.entries else f"correct them, or raise max_bad (now {max_bad:g})"
        raise UserError(f"{self.where}: {bad} of {total} cannot be used; {advice}: {self._first(3)}")

    def _first(self, count: int) -> str:
        return "; ".join(map(str, islice(self.refused, count)))
