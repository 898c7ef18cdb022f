"""Exports, read back by a small reader of our own that knows only the formats."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.exports import runs, write_coco, write_pope
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import COLOURS, KINDS, WorldSettings
from vlm_selfalign.data.world.truth import truth

DIALS = WorldSettings.of(base="rich", noise=0)


def decoded(segmentation):
    """A mask from COCO's uncompressed run lengths."""
    high, wide = segmentation["size"]
    flat, on = [], False
    for length in segmentation["counts"]:
        flat += [on] * length
        on = not on
    return np.array(flat).reshape(wide, high).T


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = write_coco(tmp_path_factory.mktemp("coco"), "test", 30, 4, DIALS)
    return (
        folder,
        json.loads((folder / "instances.json").read_text()),
        json.loads((folder / "captions.json").read_text()),
    )


def test_coco_pictures_are_the_drawn_ones(coco):
    folder, instances, _ = coco
    assert len(instances["images"]) == 30
    for index, image in enumerate(instances["images"]):
        with Image.open(folder / "images" / image["file_name"]) as picture:
            assert picture.format == "PNG" and picture.size == (image["width"], image["height"]) == (64, 64)
            assert picture.tobytes() == draw(scene(index, "test", 4, DIALS), DIALS).tobytes()
    assert not list(folder.rglob("*.tmp"))


def test_coco_boxes_and_masks_hold_the_objects(coco):
    folder, instances, _ = coco
    names = {category["id"]: category["name"] for category in instances["categories"]}
    assert sorted(names.values()) == sorted(KINDS)
    assert len({entry["id"] for entry in instances["annotations"]}) == len(instances["annotations"])
    for index, image in enumerate(instances["images"]):
        entries = [entry for entry in instances["annotations"] if entry["image_id"] == image["id"]]
        known = truth(scene(index, "test", 4, DIALS), DIALS)
        assert Counter(names[entry["category_id"]] for entry in entries) == known["counts"]
        with Image.open(folder / "images" / image["file_name"]) as picture:
            pixels = np.asarray(picture).astype(int)
        for entry in entries:
            mask = decoded(entry["segmentation"])
            left, top, wide, high = entry["bbox"]
            rows, columns = np.nonzero(mask)
            assert (left, top) == (columns.min(), rows.min())
            assert (left + wide, top + high) == (columns.max() + 1, rows.max() + 1)
            assert entry["area"] == mask.sum() and entry["iscrowd"] == 0
            if not entry["attributes"]["hard"]:
                colour = np.array(COLOURS[entry["attributes"]["colour"]])
                assert (np.abs(pixels[mask] - colour).max(1) < 12).mean() > 0.2
    seen = np.zeros((64, 64), int)
    for entry in entries:
        seen += decoded(entry["segmentation"])
    assert seen.max() == 1  # what one object hides of another is only in its own mask


def test_coco_captions_are_true_and_five_each(coco):
    _, instances, captions = coco
    by_image = Counter(entry["image_id"] for entry in captions["annotations"])
    assert set(by_image.values()) == {5} and len(by_image) == len(instances["images"])
    there = [truth(scene(index, "test", 4, DIALS), DIALS)["counts"] for index in range(30)]
    for entry in captions["annotations"]:
        counts = there[entry["image_id"] - 1]
        for sentence in entry["caption"].split(". "):
            denied = any(word in sentence for word in (" no ", " not ", "nowhere", "cannot", "Nothing", "nothing"))
            named = [
                kind for kind in KINDS if kind in sentence.replace("box", "box ").split() or f"{kind}s" in sentence
            ]
            assert denied or set(named) <= set(counts), entry["caption"]


def test_run_lengths_of_a_small_mask():
    assert runs(np.array([[0, 1], [1, 1]], bool)) == [1, 3]
    assert runs(np.array([[1, 0], [0, 0]], bool)) == [0, 1, 3]


def test_pope_files_are_balanced_and_right(tmp_path):
    folder = write_pope(tmp_path / "pope", "test", 20, 4, DIALS)
    there = [truth(scene(index, "test", 4, DIALS), DIALS)["counts"] for index in range(20)]
    for negatives in ("random", "popular", "adversarial"):
        rows = [json.loads(line) for line in (folder / f"pope_{negatives}.json").read_text().splitlines()]
        assert [row["question_id"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(set(row) == {"question_id", "image", "text", "label"} for row in rows)
        labels = Counter(row["label"] for row in rows)
        assert labels["yes"] == labels["no"] > 40
        for row in rows:
            kind = next(kind for kind in KINDS if kind in row["text"].rstrip("?").split())
            assert (row["label"] == "yes") == (kind in there[int(row["image"].removesuffix(".png")) - 1])
            assert (folder / "images" / row["image"]).is_file()


def test_the_same_export_gives_the_same_bytes(tmp_path):
    def contents(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    one, two = (write_pope(write_coco(tmp_path / name, "dev", 3), "dev", 3) for name in ("one", "two"))
    assert contents(one) == contents(two) and len(contents(one)) == 3 + 2 + 3


def test_a_place_that_cannot_be_written_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another"):
        write_coco(tmp_path / "file" / "coco", limit=1)
