"""What the reference thinks of each text, asked once and kept through any interruption.

Log-probs lie in a log like the run's own ledger; last hidden states (for the exact KL: some kilobytes a token instead
of a vocabulary of probabilities) in one file per text. The key is the text, its media and who the reference is, so
another model's numbers are never found.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm_selfalign.core.seeds import digest
from vlm_selfalign.core.segments import Segments
from vlm_selfalign.train.texts import Text


@dataclass(frozen=True)
class Opinion:
    """Of a text's S scored tokens: ``logp_S`` in float32, and ``hidden_SD`` where the KL is wanted."""

    logp_S: Tensor
    hidden_SD: Tensor | None = None


class ReferenceStore:
    """Opinions of one reference; each process writes its own log in ``folder`` and reads everybody's.

    ``folder`` None keeps them in memory only.
    """

    def __init__(self, folder: Path | None, identity: str, process: int = 0) -> None:
        self.folder, self.identity = folder, identity
        self._memory: dict[str, Opinion] = {}
        self._logs: list[Segments] = []
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            others = [path for path in sorted(folder.glob("process-*")) if path.name != f"process-{process}"]
            self._logs = [Segments(folder / f"process-{process}"), *(Segments(path, write=False) for path in others)]

    def find(self, text: Text, hidden: bool = False) -> Opinion | None:
        """What is known of a text; None also when ``hidden`` states are wanted and missing."""
        key = self._key(text)
        if key in self._memory:
            found = self._memory[key]
            return None if hidden and found.hidden_SD is None else found
        record = next((record for log in self._logs if (record := log.first(key)) is not None), None)
        if record is None:
            return None
        states = self.states(text) if hidden else None
        if hidden and states is None:
            return None
        return Opinion(torch.tensor(record["logp"]), states)

    def states(self, text: Text) -> Tensor | None:
        """The hidden states of a text's scored tokens ``[S, D]``, whichever process kept them."""
        key = self._key(text)
        if not self.folder:
            return self._memory[key].hidden_SD if key in self._memory else None
        with contextlib.suppress(OSError, SafetensorError, KeyError):
            return load_file(self._path(key))["hidden"]
        return None

    def keep(self, opinions: Sequence[tuple[Text, Opinion]]) -> None:
        """Keep opinions: all of them when this returns, or none."""
        keyed: dict[str, Opinion] = {}
        for text, opinion in opinions:  # a text may stand twice, and its states be wanted only once
            known = keyed.get(key := self._key(text))
            keyed[key] = known if known and known.hidden_SD is not None else opinion
        if not self._logs:
            self._memory |= keyed
            return
        for key, opinion in keyed.items():  # states first: a log line promises them
            if opinion.hidden_SD is not None:
                self._write(key, opinion.hidden_SD)
        self._logs[0].append((key, {"logp": opinion.logp_S.tolist()}) for key, opinion in keyed.items())

    def close(self) -> None:
        """Close the files."""
        for log in self._logs:
            log.close()

    def _key(self, text: Text) -> str:
        shown = tuple(media.content() for media in text.prompt.media)
        return digest(self.identity, text.ids, text.scored, shown)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / "states" / f"{key}.safetensors"

    def _write(self, key: str, hidden_SD: Tensor) -> None:
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        save_file({"hidden": hidden_SD.contiguous().cpu()}, draft)
        draft.replace(path)
