"""Parquet rows are manifest rows; pictures inside the table are found again by their address."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.parquet import parquet
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image
from vlm_selfalign.media.video import load_video

from .made import clip, numbers


def inside(level: int) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), level).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{level}.png"}


def table(path: Path, rows: list[dict[str, object]], **options: int) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return str(path)


def level(media: object) -> int:
    return load_image(media).getpixel((0, 0))[0]  # type: ignore


def test_paths_relative_to_the_table(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 5).save(tmp_path / "5.png")
    truth = {"objects": [{"kind": "cup", "colour": "red"}]}
    listing = parquet(table(tmp_path / "t.parquet", [{"image": "5.png", "truth": truth, "id": 1}]))
    (sample,) = listing
    assert sample.truth == truth and level(sample.prompt.media[0]) == 5


def test_pictures_inside_over_row_groups_and_files(tmp_path: Path) -> None:
    rows = [{"image": inside(n), "prompt": f"{n}?"} for n in range(10)]
    table(tmp_path / "part #1%.parquet", rows[:7], row_group_size=3)
    table(tmp_path / "part 2.parquet", rows[7:], row_group_size=2)
    samples = list(parquet(str(tmp_path)))
    assert [s.prompt.question for s in samples] == [f"{n}?" for n in range(10)]
    assert [level(s.prompt.media[0]) for s in reversed(samples)] == list(range(9, -1, -1))


def test_lists_of_pictures_inside(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", [{"images": [inside(1), inside(2)]}, {"images": [inside(3)]}])
    assert [[level(m) for m in sample.prompt.media] for sample in parquet(path)] == [[1, 2], [3]]


def test_the_hash_is_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "5.png").write_bytes(inside(5)["bytes"])  # type: ignore[arg-type]
    by_path = parquet(table(tmp_path / "a.parquet", [{"image": "5.png"}]))[0]
    by_bytes = parquet(table(tmp_path / "b.parquet", [{"image": inside(5)}]))[0]
    assert by_path.id == by_bytes.id


def test_a_table_written_again_is_noticed(tmp_path: Path) -> None:
    media = parquet(table(tmp_path / "t.parquet", [{"image": inside(1)}]))[0].prompt.media[0]
    parquet(table(tmp_path / "t.parquet", [{"image": inside(2)}]))
    with pytest.raises(MediaError, match="changed"):
        load_image(media)
    with pytest.raises(MediaError):
        load_image(media.model_copy(update={"uri": media.uri.replace("#0", "#7")}))


def test_bad_rows(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": "good", "truth": 1.0},
        {"text": "bad truth", "truth": float("nan")},
        {"text": None, "truth": 1.0},
    ]
    with pytest.warns(UserWarning, match="2 of 3"):
        listing = parquet(table(tmp_path / "t.parquet", rows), max_bad=1)
    assert [one.where for one in listing.refused] == ["t.parquet:1", "t.parquet:2"]
    with pytest.warns(UserWarning, match="left out"):
        rows = [
            {"image": inside(1)},
            {"image": {"bytes": b"words", "path": "x"}},
            {"image": {"bytes": b"", "path": ""}},
        ]
        listing = parquet(table(tmp_path / "t.parquet", rows), max_bad=1)
    assert [one.reason for one in listing.refused] == ["not a picture but text", "an empty file"]
    with pytest.raises(UserError, match="not under the manifest"):
        parquet(table(tmp_path / "t.parquet", [{"image": {"bytes": None, "path": "/etc/passwd"}}]))
    moment = pa.table({"text": ["a"], "truth": pa.array([0], pa.timestamp("s"))})
    pq.write_table(moment, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="truth is not JSON"):
        parquet(str(tmp_path / "t.parquet"))


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Parquet file there"):
        parquet(str(tmp_path / "nothing.parquet"))
    with pytest.raises(UserError, match="no Parquet file there"):
        parquet(str(tmp_path))
    (tmp_path / "x.parquet").write_text("words")
    with pytest.raises(UserError, match="not a readable Parquet file") as caught:
        parquet(str(tmp_path / "x.parquet"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="has no image, images, video"):
        parquet(table(tmp_path / "t.parquet", [{"id": "a"}]))


def test_a_truth_written_as_json_text_is_read(tmp_path):
    truth = {"objects": [{"kind": "cup", "colour": "red"}]}
    rows = [
        {"text": "a", "truth": json.dumps(truth)},
        {"text": "b", "truth": "a red cup"},
        {"text": "c", "truth": "[1"},
    ]
    with pytest.warns(UserWarning, match="1 of 3 left out"):
        listing = parquet(table(tmp_path / "t.parquet", rows), max_bad=0.5)
    assert [sample.truth for sample in listing] == [truth, "a red cup"]
    assert listing.refused[0].reason == "truth is not JSON"


def test_clips_by_path_and_inside(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4")
    clip(tmp_path / "b.mp4", first=4)
    held = {"bytes": path.read_bytes(), "path": "a.mp4"}
    by_path = parquet(table(tmp_path / "p.parquet", [{"video": "b.mp4", "start": 1.0, "end": None}]))[0]
    assert by_path.prompt.question == "Describe the video."
    assert numbers(load_video(by_path.prompt.media[0], frames=2)) == [16, 21]
    inside_ = parquet(table(tmp_path / "i.parquet", [{"videos": [held, {"bytes": None, "path": "b.mp4"}]}]))[0]
    assert [numbers(load_video(m, frames=2)) for m in inside_.prompt.media] == [[5, 15], [9, 19]]
    with pytest.raises(UserError, match="not a clip but text"):
        parquet(table(tmp_path / "w.parquet", [{"video": {"bytes": b"words", "path": "a.mp4"}}]))
