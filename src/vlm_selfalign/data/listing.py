"""What every source gives: samples to iterate over, how many, and what was left out and why.

An entry is kept small (a million of them fit); its ``Sample`` is made when it is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.seeds import digest

Limit = Annotated[int | None, Field(ge=1)]
MaxBad = Annotated[float, Field(ge=0, le=1)]


class Entry(NamedTuple):
    """One sample to be: the question, its pictures as (address, content hash), what is true, the user's own id."""

    prompt: str
    pictures: tuple[tuple[str, str], ...] = ()
    truth: Any = None
    name: str | None = None

    def sample(self) -> Sample:
        """The sample; its id is the prompt's digest, after the user's own id where there is one.

        The digest stays in the id because what is remembered about a sample must not outlive its content.
        """
        media = (Media(kind="image", uri=uri, content_hash=content_hash) for uri, content_hash in self.pictures)
        sample = Sample.of(Prompt.user(self.prompt, *media), self.truth)
        return sample if self.name is None else sample.model_copy(update={"id": f"{self.name}.{sample.id[:16]}"})

    @property
    def key(self) -> bytes:
        """Equal for entries that ask the same of the same pictures under the same name."""
        return bytes.fromhex(digest(self.prompt, tuple(h for _, h in self.pictures), self.name))


@dataclass
class Listing:
    """The samples of a source in a fixed order, with the account of what is not among them."""

    where: str
    """The path as the user gave it, for messages."""
    entries: list[Entry] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(path or file:line, reason) of everything that looked like a sample and cannot be used."""
    duplicates: int = 0
    """Entries left out because an earlier one asks the same of the same content."""

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Sample]:
        return (entry.sample() for entry in self.entries)

    def __getitem__(self, index: int) -> Sample:
        return self.entries[index].sample()

    def take(self, found: Iterable[tuple[str, Entry | str]], limit: int | None) -> Listing:
        """Add what is found, (where, entry or the reason there is none), up to ``limit`` entries in all."""
        seen: set[bytes] = set()
        for where, entry in found:
            if isinstance(entry, str):
                self.refused.append((where, entry))
            elif entry.key in seen:
                self.duplicates += 1
            else:
                seen.add(entry.key)
                self.entries.append(entry)
                if len(self.entries) == limit:
                    break
        return self

    def checked(self, max_bad: float) -> Listing:
        """Itself, unless more than ``max_bad`` of all entries cannot be used, or none can: then ``UserError``."""
        bad, total = len(self.refused), len(self.refused) + len(self.entries) + self.duplicates
        if self.entries and bad <= max_bad * total:
            if bad:
                warnings.warn(f"{self.where}: {bad} of {total} left out; first: {self._first(1)}", stacklevel=2)
            return self
        if not total:
            raise UserError(f"{self.where}: holds no rows; give one JSON object or table row per sample")
        advice = "correct them" if not self.entries else f"correct them, or raise max_bad (now {max_bad:g})"
        raise UserError(f"{self.where}: {bad} of {total} cannot be used; {advice}: {self._first(3)}")

    def _first(self, count: int) -> str:
        return "; ".join(f"{where}: {reason}" for where, reason in islice(self.refused, count))
