"""How well words fit a picture or clip, by a CLIP model on disk (open_clip): the role ``clip``.

::

    roles: {clip: {path: "open_clip:models/ViT-B-32"}}        # in a recipe: a folder with open_clip_config.json
    sa.run("videosavi_v1", services={"clip": ClipService("models/ViT-B-32")})         # the same from Python

A clip is the mean over its frames. Nothing is fetched: what is not on disk is missing, and said once.
"""

from __future__ import annotations

import importlib.util
import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.registry import service
from vlm_selfalign.core.requests import Embed, Failed, Ground, Reply, Request, Value
from vlm_selfalign.core.seeds import digest, digest_file
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image
from vlm_selfalign.media.video import load_video
from vlm_selfalign.models.identity import check_card

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

CONFIG = "open_clip_config.json"
KEPT = 256
"""Media whose frames' embeddings are kept: the answers about a clip come one after the other."""


@service
def clip(path: str, frames: int = 8, batch_size: int = 32) -> ClipService:
    """CLIP from a folder; see ``ClipService``."""
    return ClipService(path, frames, batch_size)


class ClipService:
    """``core.requests.Service`` that answers ``Ground`` and ``Embed``.

    Args:
        path: A folder with ``open_clip_config.json`` and the weights beside it.
        frames: Frames that a clip is judged by, evenly over its time.
        batch_size: How many requests it likes at once.

    Without a model that loads at ``path`` every request is ``Failed`` with that reason, which is logged once.
    """

    def __init__(self, path: str | Path, frames: int = 8, batch_size: int = 32) -> None:
        self.path = Path(path)
        self.frames = frames
        self._batch_size = batch_size
        self._images: OrderedDict[Media, Tensor] = OrderedDict()
        self._missing = why_missing(self.path)
        if self._missing:
            log.warning("%s", self._missing)

    @property
    def identity(self) -> str:
        """Weights, settings and number of frames; that there is none, where there is none."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        if self._missing:
            # Not remembered as the model's own answer once there is one.
            return f"no CLIP model: {self.path}"
        files = sorted(file for file in self.path.iterdir() if file.is_file())
        return f"clip {digest([(file.name, digest_file(file)) for file in files], self.frames)}"

    @property
    def batch_size(self) -> int:
        """As given."""
        return self._batch_size

    def serve(self, requests: Sequence[Request], seeds: Sequence[int]) -> list[Reply]:
        """Answer in order; what cannot be opened or is asked of no CLIP is ``Failed`` and disturbs no other."""
        if self._missing or self._cannot_load():
            return [Failed(reason=self._missing) for _ in requests]
        with torch.inference_mode():
            return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Reply:
        try:
            match request:
                case Ground():
                    # Frames first, then their mean: a thing that is seen in half of them fits half.
                    return Value(value=float((self._seen(request.media) @ self._read(request.text)).mean()))
                case Embed():
                    return Value(value=[self._embedded(item).tolist() for item in request.items])
        except MediaError as error:
            return Failed(reason=error.reason)
        return Failed(reason=f"CLIP does not answer {type(request).__name__}")

    def _embedded(self, item: str | Media) -> Tensor:
        """``[D]``, of unit length."""
        if isinstance(item, str):
            return self._read(item)
        return torch.nn.functional.normalize(self._seen(item).mean(0), dim=-1)

    def _read(self, text: str) -> Tensor:
        return self._model.encode_text(self._tokenizer([text]), normalize=True)[0]

    def _seen(self, media: Media) -> Tensor:
        """``[F, D]``: each frame's, of unit length."""
        if media not in self._images:
            pixels = torch.stack([self._look(picture) for picture in self._pictures(media)])
            self._images[media] = self._model.encode_image(pixels, normalize=True)
            while len(self._images) > KEPT:
                self._images.popitem(last=False)
        self._images.move_to_end(media)
        return self._images[media]

    def _pictures(self, media: Media) -> list[Image.Image]:
        if media.kind == "image":
            return [load_image(media)]
        return [Image.fromarray(frame) for frame in load_video(media, frames=self.frames).frames]

    def _cannot_load(self) -> bool:
        """Whether what is in the folder is no model after all; said once."""
        try:
            return not self._loaded
        except Exception as error:  # whatever open_clip, torch and its unpickler make of the files
            told = str(error).strip().splitlines() or [type(error).__name__]
            self._missing = f"no CLIP model at {self.path}: {told[0]}"
            log.warning("%s", self._missing)
            return True

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        # Twenty seconds on a busy machine; a run that asks nothing of CLIP should not wait for it.
        import open_clip

        check_card(self.path)
        name = f"local-dir:{self.path.resolve()}"
        loaded: Any = open_clip.create_model_from_pretrained(name, return_transform=True)
        model, look = loaded
        return model.eval(), look, open_clip.get_tokenizer(name)

    @property
    def _model(self) -> Any:
        return self._loaded[0]

    @property
    def _look(self) -> Any:
        return self._loaded[1]

    @property
    def _tokenizer(self) -> Any:
        return self._loaded[2]


def why_missing(path: str | Path) -> str:
    """Why no CLIP model can be loaded from a folder; nothing where one can."""
    if importlib.util.find_spec("open_clip") is None:
        return f"no CLIP model at {path}: open_clip is not installed; pip install open_clip_torch"
    if not (Path(path) / CONFIG).is_file():
        return f"no CLIP model at {path}: give a folder with {CONFIG} and the weights of an open_clip model"
    return ""
