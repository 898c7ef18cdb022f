"""Who plays which role, in which version: ``policy`` is the newest, ``policy@-1`` the one before, ``policy@0`` the
first.

A role whose ``path`` is ``open_clip:FOLDER`` is played by a CLIP model, which knows similarities and learns nothing::

    roles: {clip: {path: "open_clip:models/ViT-B-32"}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.driver import Decoder
from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.requests import Service

if TYPE_CHECKING:
    from vlm_selfalign.models.clip_service import ClipService
    from vlm_selfalign.models.hf import HFService

CLIP = "open_clip:"


def is_clip(settings: ModelSettings) -> bool:
    """Whether a CLIP model plays the role."""
    return settings.path.startswith(CLIP)


class Roles(Mapping[str, "Service | Decoder"]):
    """Services by role, loaded when first asked for; two versions of a role are kept in memory at most.

    ``given`` services (scripted replies, a remote endpoint, any ``Service``) answer for a role whatever its version.
    """

    def __init__(
        self, models: Mapping[str, ModelSettings], given: Mapping[str, Service | Decoder] | None = None
    ) -> None:
        self.models = dict(models)
        self.given = dict(given or {})
        self.versions: dict[str, list[str]] = {role: [settings.path] for role, settings in models.items()}
        self._loaded: dict[str, HFService] = {}
        self._clips: dict[str, ClipService] = {}

    def path(self, role: str) -> str:
        """Where the weights of a role's version are."""
        name, version = self._version(role)
        return self.versions[name][version]

    def settings(self, role: str) -> ModelSettings:
        """How to load a role's version."""
        name, version = self._version(role)
        return self.models[name].model_copy(update={"path": self.versions[name][version]})

    def promote(self, role: str, path: Path) -> None:
        """A fit made a new version."""
        self.versions[role].append(str(path))

    def identities(self) -> dict[str, str]:
        """Identity of the newest version of every role."""
        return {role: self[role].identity for role in self}

    def __getitem__(self, role: str) -> Service | Decoder:
        name = role.partition("@")[0]
        if name in self.given:
            return self.given[name]
        if name not in self.models:
            raise KeyError(role)
        return self._clip(name) if is_clip(self.models[name]) else self._load(role)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.models, *self.given}))

    def __len__(self) -> int:
        return len({*self.models, *self.given})

    def loaded(self, role: str) -> HFService:
        """The weights of a role themselves, whoever answers for it."""
        return self._load(role)

    def release(self) -> None:
        """Let go of all loaded weights, so that training has the memory; they are loaded again when asked for."""
        from vlm_selfalign.models.hf import empty_caches

        self._loaded.clear()
        self._clips.clear()
        empty_caches()

    def _clip(self, name: str) -> ClipService:
        from vlm_selfalign.models.clip_service import ClipService

        if name not in self._clips:
            settings = self.models[name]
            folder, frames = settings.path.removeprefix(CLIP), settings.media.frames or 8
            self._clips[name] = ClipService(folder, frames, settings.batch_size)
        return self._clips[name]

    def _load(self, role: str) -> HFService:
        from vlm_selfalign.models.hf import HFService
        from vlm_selfalign.models.load import load

        settings = self.settings(role)
        if settings.path not in self._loaded:
            while len(self._loaded) >= 2:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[settings.path] = HFService(load(settings), batch_size=settings.batch_size)
        self._loaded[settings.path] = self._loaded.pop(settings.path)
        return self._loaded[settings.path]

    def _version(self, role: str) -> tuple[str, int]:
        name, _, version = role.partition("@")
        if name not in self.versions:
            raise UserError(f"no model is configured for the role '{name}'{nearest(name, self.versions)}")
        try:
            number = int(version) - 1 if version.startswith("-") else int(version or -1)
            self.versions[name][number]
        except (ValueError, IndexError):
            raise UserError(f"the role '{role}' names a version that does not exist (yet)") from None
        return name, number
