"""Each line of a manifest is taken or refused with its number; the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.data.jsonl import jsonl
from vlm_selfalign.data.listing import Listing
from vlm_selfalign.media.image import load_image
from vlm_selfalign.media.video import load_video

from . import hostile
from .made import clip, numbers

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    for number in range(3):
        Image.new("L", (4, 4), number).save(inside / f"{number}.png")
    Image.new("L", (4, 4), 99).save(inside / "sub" / "é x.png")
    Image.new("L", (4, 4), 100).save(tmp_path / "secret.png")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "words.png").write_text("words")
    return inside


def manifest(root: Path, *lines: object) -> str:
    raw = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    (root / "m.jsonl").write_bytes(raw)
    return str(root / "m.jsonl")


def test_rows_become_samples(root: Path) -> None:
    truth = {"objects": [{"kind": "cup", "colour": "red"}]}
    listing = jsonl(
        manifest(
            root,
            {"image": "0.png", "truth": truth, "id": "first"},
            {"images": ["1.png", "sub/é x.png"], "prompt": "Compare them."},
            b"",
            {"text": "What is 2 + 2?", "truth": "4"},
            {"image": "2.png", "prompt": None},
        ),
        prompt="Say what you see.",
    )
    first, two, text, last = samples = list(listing)
    assert len(listing) == 4 and not listing.refused
    assert first.truth == truth and first.id.startswith("first.") and first.prompt.question == "Say what you see."
    assert [load_image(m).getpixel((0, 0))[0] for m in two.prompt.media] == [1, 99]
    assert text.prompt.media == () and text.truth == "4" and text.prompt.question == "What is 2 + 2?"
    assert last.prompt.question == "Say what you see."
    assert len({sample.id for sample in samples}) == 4


def test_ids_follow_content(root: Path) -> None:
    before = jsonl(manifest(root, {"text": "a", "id": 7}))[0]
    after = jsonl(manifest(root, {"text": "b", "id": 7}))[0]
    assert before.id != after.id
    assert before.id.startswith("7.") and after.id.startswith("7.")


def test_equal_rows_are_one_sample_unless_they_have_names(root: Path) -> None:
    listing = jsonl(manifest(root, {"text": "a"}, {"text": "a"}, {"text": "a", "id": "x"}, {"text": "a", "id": "y"}))
    assert len(listing) == 3 and listing.repeats.total() == 1
    assert len({sample.id for sample in listing}) == 3


def test_columns_of_clips(root: Path) -> None:
    (root / "clips").mkdir()
    clip(root / "clips" / "a.mp4")
    clip(root / "clips" / "b.mp4", first=5)
    listing = jsonl(
        manifest(
            root,
            {"video": "clips/a.mp4"},
            {"video": "clips/a.mp4", "start": 0},
            {"video": "clips/a.mp4", "start": 1, "end": 1.5, "prompt": "What happens?"},
            {"videos": ["clips/b.mp4", "clips/a.mp4"], "image": "0.png"},
            {"video": "clips/a.mp4", "image": "0.png", "end": 1},
            {"image": "0.png"},
        )
    )
    whole, part, several, beside, still = (sample.prompt for sample in listing)
    assert listing.repeats.total() == 1  # from 0 on is the whole clip
    assert whole.question == "Describe the video." and still.question == "Describe the image."
    assert [(m.kind, m.start, m.end) for m in part.media] == [("video", 1.0, 1.5)]
    assert [m.kind for m in several.media] == ["image", "video", "video"]
    assert [(m.kind, m.end) for m in beside.media] == [("image", None), ("video", 1.0)]
    assert numbers(load_video(part.media[0], frames=5)) == [10, 11, 12, 13, 14]
    assert numbers(load_video(several.media[1], frames=1)) == [15]


def test_hostile_lines_one_by_one(root: Path) -> None:
    """Every line gets the verdict of the key, under its own number, and the run goes on."""
    lines, key = hostile.lines(), hostile.key()
    with pytest.warns(UserWarning, match="left out"):
        listing = jsonl(manifest(root, *lines), max_bad=1)
    assert {one.where: one for one in listing.refused}.keys() == {f"m.jsonl:{number}" for number in key}
    for one in listing.refused:
        wanted = key[int(one.where.split(":")[1])]
        assert wanted in str(one) and "\n" not in str(one) and len(str(one)) < 400
    assert len(listing) == len(lines) - len(key) > 0
    reasons = {one.reason for one in listing.refused}
    assert not any(letter in reason for reason in reasons for letter in '"{/'), "reasons are to be counted"


def test_a_thousand_random_lines(root: Path) -> None:
    lines, bad = hostile.random_lines(1_000, seed=3)
    assert 300 < len(bad) < 700
    with pytest.warns(UserWarning, match="left out"):
        listing = jsonl(manifest(root, *lines), max_bad=1)
    assert {int(one.where.split(":")[1]) for one in listing.refused} == bad
    assert len(listing) + listing.repeats.total() == 1_000 - len(bad)
    shown = {media.uri for sample in listing for media in sample.prompt.media}
    assert shown <= {str(root / name) for name in hostile.GOOD}


def test_a_byte_order_mark_and_windows_lines_are_fine(root: Path) -> None:
    assert len(jsonl(manifest(root, b'\xef\xbb\xbf{"text": "a"}\r', b'{"text": "b"}\r'))) == 2


def test_too_many_bad_lines_stop_with_the_first_three(root: Path) -> None:
    lines = [{"text": str(number)} for number in range(94)]
    with pytest.warns(UserWarning, match="5 of 99"):
        assert len(jsonl(manifest(root, *lines, *[b"{"] * 5), max_bad=0.051)) == 94
    with pytest.raises(UserError, match=r"6 of 100 cannot be used; .*max_bad.*m.jsonl:95.*m.jsonl:96.*m.jsonl:97") as e:
        jsonl(manifest(root, *lines, *[b"{"] * 6))
    assert "m.jsonl:98" not in str(e.value) and "\n" not in str(e.value)


def test_outside_and_root(root: Path) -> None:
    absolute = str(root.parent / "secret.png")
    lines = [{"image": "../secret.png"}, {"image": absolute, "prompt": "?"}, {"image": "link.png", "prompt": "!"}]
    assert len(jsonl(manifest(root, *lines), outside=True)) == 3
    (root.parent / "m.jsonl").write_text('{"image": "0.png"}')
    assert len(jsonl(str(root.parent / "m.jsonl"), root=str(root))) == 1


def test_columns_by_other_names(root: Path) -> None:
    path = manifest(root, {"picture": "0.png", "question": "What?"})
    listing = jsonl(path, columns={"image": "picture", "prompt": "question"})
    assert listing[0].prompt.question == "What?" and len(listing[0].prompt.media) == 1
    with pytest.raises(UserError, match=r"columns.promt: no such column; did you mean 'prompt'"):
        jsonl(path, columns={"promt": "question"})


def test_ignored_columns_warn_once(root: Path) -> None:
    path = manifest(root, *[{"text": str(number), "promt": "x"} for number in range(5)])
    with pytest.warns(UserWarning) as caught:
        jsonl(path)
    assert [str(w.message) for w in caught] == ["column 'promt' is ignored; did you mean 'prompt'?"]


def test_mistakes_say_what_to_do(root: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; give data\.path="):
        jsonl(str(root / "nothing.jsonl"))
    with pytest.raises(UserError, match="a folder, not a file"):
        jsonl(str(root))
    (root / "blank.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="holds no rows"):
        jsonl(str(root / "blank.jsonl"))
    with pytest.raises(UserError, match="max_bad"):
        resolve("source", "jsonl").build({"path": "x", "max_bad": 2})


def test_limit(root: Path) -> None:
    assert len(jsonl(manifest(root, *[{"text": str(n)} for n in range(9)], b"{"), limit=4)) == 4


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
columns = st.sampled_from(["image", "images", "prompt", "text", "truth", "id", "other"])
paths = st.sampled_from(["0.png", "1.png", "../secret.png", "/etc/passwd", "nothing.png", "words.png", "link.png"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(columns, json_values | paths | st.lists(paths, max_size=3)) | st.binary(), max_size=20))
@pytest.mark.filterwarnings("ignore:column", "ignore:.*left out")
def test_any_manifest_is_accounted_for(root: Path, rows: list[object]) -> None:
    lines = [row.replace(b"\n", b"") if isinstance(row, bytes) else row for row in rows]
    wanted = sum(not isinstance(line, bytes) or bool(line.strip()) for line in lines)
    try:
        listing = jsonl(manifest(root, *lines), max_bad=1)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(listing, Listing)
    assert len(listing) + len(listing.refused) + listing.repeats.total() == wanted
    shown = {media.uri for sample in listing for media in sample.prompt.media}
    assert shown <= {str(root / "0.png"), str(root / "1.png")}
    assert len({sample.id for sample in listing}) == len(listing)
