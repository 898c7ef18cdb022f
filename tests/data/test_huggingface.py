"""Folders of the ``datasets`` library, without ever touching a network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"

library = pytest.importorskip("datasets")

from vlm_selfalign.core.errors import UserError  # noqa: E402
from vlm_selfalign.core.registry import resolve  # noqa: E402
from vlm_selfalign.media.image import load_image  # noqa: E402
from vlm_selfalign.media.video import load_video  # noqa: E402

from .made import clip, numbers  # noqa: E402

build = resolve("source", "datasets")
library.disable_progress_bars()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("L", (4, 4), level) for level in range(count)]


def levels(listing: object) -> list[list[int]]:
    return [[load_image(m).getpixel((0, 0))[0] for m in s.prompt.media] for s in listing]  # type: ignore


def test_saved_to_disk(tmp_path: Path) -> None:
    saved = library.Dataset.from_dict({"image": pictures(3), "prompt": ["a", "b", "c"], "id": ["x", "y", "z"]})
    saved.save_to_disk(tmp_path / "one")
    library.DatasetDict(train=saved, test=saved.select([2])).save_to_disk(tmp_path / "two")
    listing = build(path=str(tmp_path / "one"))
    assert levels(listing) == [[0], [1], [2]]
    assert [s.prompt.question for s in listing] == ["a", "b", "c"]
    assert levels(build(path=str(tmp_path / "two"))) == [[0], [1], [2]]
    assert levels(build(path=str(tmp_path / "two"), split="test")) == [[2]]
    assert [s.id for s in build(path=str(tmp_path / "two"), split="test")] == [listing[2].id]
    with pytest.raises(UserError, match="no split 'tast'; did you mean 'test'"):
        build(path=str(tmp_path / "two"), split="tast")


def test_a_saved_table_is_found_by_its_address_in_another_process(tmp_path: Path) -> None:
    library.Dataset.from_dict({"image": pictures(2)}).save_to_disk(tmp_path / "a #1")
    media = build(path=str(tmp_path / "a #1"))[1].prompt.media[0]
    program = f"from vlm_selfalign.media.image import load_image; print(load_image({media.uri!r}).getpixel((0, 0)))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "(1, 1, 1)"


def test_lists_of_pictures_and_other_names(tmp_path: Path) -> None:
    features = library.Features(views=library.List(library.Image()), question=library.Value("string"))
    saved = library.Dataset.from_dict({"views": [pictures(2)], "question": ["same?"]}, features=features)
    saved.save_to_disk(tmp_path / "one")
    listing = build(path=str(tmp_path / "one"), columns={"images": "views", "prompt": "question"})
    assert levels(listing) == [[0, 1]] and listing[0].prompt.question == "same?"


def test_text_only(tmp_path: Path) -> None:
    library.Dataset.from_dict({"text": ["a", "b"], "truth": ["1", "2"]}).save_to_disk(tmp_path / "one")
    listing = build(path=str(tmp_path / "one"), limit=1)
    assert [(s.prompt.question, s.truth, s.prompt.media) for s in listing] == [("a", "1", ())]


def test_parquet_and_image_folders(tmp_path: Path) -> None:
    (tmp_path / "p" / "train").mkdir(parents=True)
    library.Dataset.from_dict({"image": pictures(2)}).to_parquet(tmp_path / "p" / "train" / "0.parquet")
    assert levels(build(path=str(tmp_path / "p"))) == [[0], [1]]
    assert levels(build(path=str(tmp_path / "p" / "train" / "0.parquet"))) == [[0], [1]]
    for level, image in enumerate(pictures(2)):
        (tmp_path / "f" / "train").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "f" / "train" / f"{level}.png")
    assert levels(build(path=str(tmp_path / "f"))) == [[0], [1]]
    (tmp_path / "f" / "train" / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "this one"}')
    assert levels(build(path=str(tmp_path / "f"))) == [[1]]


def test_nothing_is_downloaded() -> None:
    with pytest.raises(UserError, match=r"nothing is downloaded.*hf download"):
        build(path="owner/name")


def test_a_damaged_folder(tmp_path: Path) -> None:
    library.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "one")
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"words")
    with pytest.raises(UserError, match="cannot be loaded"):
        build(path=str(tmp_path / "one"))


def test_clips(tmp_path: Path) -> None:
    first, second = clip(tmp_path / "v" / "a.mp4"), clip(tmp_path / "v" / "b.mp4", first=3)
    features = library.Features(video=library.Video(), prompt=library.Value("string"))
    rows = {"video": [str(first), {"bytes": second.read_bytes(), "path": None}], "prompt": ["a", "b"]}
    library.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "one")
    listing = build(path=str(tmp_path / "one"), outside=True)
    assert [numbers(load_video(s.prompt.media[0], frames=2)) for s in listing] == [[5, 15], [8, 18]]
    assert len(build(path=str(tmp_path / "v"))) == 2
    (tmp_path / "v" / "metadata.jsonl").write_text('{"file_name": "b.mp4", "text": "this one", "start": 1}')
    (sample,) = build(path=str(tmp_path / "v"))
    assert (sample.prompt.question, sample.prompt.media[0].start) == ("this one", 1.0)
