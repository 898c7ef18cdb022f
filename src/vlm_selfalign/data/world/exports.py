"""The drawn world in the formats of COCO and POPE, so that anyone's metric runs on it.

::

    write_coco("world", split="test", limit=500)    # world/images/*.png, world/instances.json, world/captions.json
    write_pope("world", split="test", limit=500)    # world/pope_random.json, ..._popular.json, ..._adversarial.json

COCO (Lin et al. 2014): boxes and masks hold what can be seen of an object. POPE (Li et al. 2023): one JSON object a
line, ``question_id``, ``image``, ``text`` and ``label``. Every file is whole or not there at all.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from vlm_selfalign.core.disk import atomic, make_folder, write_atomic
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.descriptions import describe
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.questions import Negatives, asked
from vlm_selfalign.data.world.scenes import Scene, Split, scene
from vlm_selfalign.data.world.settings import KINDS, WorldSettings
from vlm_selfalign.data.world.truth import box, covered, truth, visible

CAPTIONS = 5
"""Captions of a picture, as in COCO; all of them true."""

PER_IMAGE = 3
"""POPE asks so many questions answered yes, and as many answered no, about a picture that has as many objects."""


def write_coco(
    folder: str | Path,
    split: Split = "test",
    limit: int = 100,
    seed: int = 0,
    settings: WorldSettings | None = None,
) -> Path:
    """Pictures as PNG, ``instances.json`` and ``captions.json`` of the first ``limit`` scenes; returns the folder."""
    settings, folder = settings or WorldSettings(), make_folder(folder)
    images, instances, captions = [], [], []
    for index, shown in enumerate(_scenes(split, limit, seed, settings)):
        name = _picture(folder, index, shown, settings)
        images.append({"id": index + 1, "file_name": name, "width": settings.side, "height": settings.side})
        instances += _annotations(index + 1, shown, settings, len(instances))
        captions += _captions(index + 1, shown, rng("coco", split, seed, index), settings, len(captions))
    categories = [{"id": i + 1, "name": kind, "supercategory": "thing"} for i, kind in enumerate(KINDS)]
    about = {"info": {"description": "drawn world", "split": split, "seed": seed, "dials": settings.turned()}}
    _write(folder / "instances.json", about | {"images": images, "annotations": instances, "categories": categories})
    _write(folder / "captions.json", about | {"images": images, "annotations": captions})
    return folder


def write_pope(
    folder: str | Path,
    split: Split = "test",
    limit: int = 100,
    seed: int = 0,
    settings: WorldSettings | None = None,
) -> Path:
    """Pictures as PNG and one file of questions for each way to choose absent objects; returns the folder."""
    settings, folder = settings or WorldSettings(), make_folder(folder)
    scenes = list(_scenes(split, limit, seed, settings))
    names = [_picture(folder, index, shown, settings) for index, shown in enumerate(scenes)]
    known = [truth(shown, settings) for shown in scenes]
    for negatives in get_args(Negatives):
        number = 0
        with atomic(folder / f"pope_{negatives}.json") as write:
            for index, one in enumerate(known):
                chance = rng("pope", negatives, split, seed, index)
                questions = asked(one, f"existence_{negatives}", chance, settings.partners, PER_IMAGE)
                for question in questions:
                    number += 1
                    row = {"question_id": number, "image": names[index], "text": question.text}
                    write(json.dumps(row | {"label": question.answer.lower()}).encode() + b"\n")
    return folder


def _scenes(split: Split, limit: int, seed: int, settings: WorldSettings) -> Iterator[Scene]:
    return (scene(index, split, seed, settings) for index in range(limit))


def _picture(folder: Path, index: int, shown: Scene, settings: WorldSettings) -> str:
    make_folder(folder / "images")
    name = f"{index + 1:012d}.png"
    write_atomic(folder / "images" / name, png(draw(shown, settings)))
    return name


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, content: Any) -> None:
    write_atomic(path, json.dumps(content))


def _annotations(image: int, shown: Scene, settings: WorldSettings, before: int) -> list[dict[str, Any]]:
    masks = [covered(thing, settings) for thing in shown.things]
    found = []
    for item, mask, seen in zip(truth(shown, settings)["objects"], masks, visible(shown, masks), strict=True):
        entry = {
            "id": before + len(found) + 1,
            "image_id": image,
            "category_id": KINDS.index(item["kind"]) + 1,
            "bbox": box(seen if seen.any() else mask),
            "area": int(seen.sum()),
            "segmentation": {"size": list(seen.shape), "counts": runs(seen)},
            "iscrowd": 0,
        }
        attributes = ("colour", "place", "size", "hidden", "contrast", "hard")
        found.append(entry | {"attributes": {name: item[name] for name in attributes}})
    return found


def runs(mask: np.ndarray) -> list[int]:
    """A mask as COCO's run lengths: down the columns, pixels off and on in turn, off first."""
    lengths = [(bool(on), len(list(pixels))) for on, pixels in groupby(mask.ravel(order="F").tolist())]
    return ([0] if lengths[0][0] else []) + [length for _, length in lengths]


def _captions(
    image: int, shown: Scene, chance: random.Random, settings: WorldSettings, before: int
) -> list[dict[str, Any]]:
    true = settings.model_copy(update={"omission": 0.0, "partners": (), "mistaken": 0.0, "hedged": 0.0})
    texts = [describe(shown, chance, true).text for _ in range(CAPTIONS)]
    return [{"id": before + i + 1, "image_id": image, "caption": text} for i, text in enumerate(texts)]
