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
from vlm_selfalign.data.jsonl import MAX_LINE, jsonl
from vlm_selfalign.data.listing import Listing
from vlm_selfalign.media.image import load_image


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
    assert len(listing) == 3 and listing.duplicates == 1
    assert len({sample.id for sample in listing}) == 3


BAD = [
    (b"{", "not JSON"),
    (b"[1, 2]", "is not an object"),
    (b'"words"', "is not an object"),
    (b"{}", "has no image, images, prompt or text"),
    (b'{"truth": 1}', "has no image, images, prompt or text"),
    (b'{"text": ""}', "asks nothing"),
    (b'{"text": 3}', "prompt is 3, not text"),
    (b'{"text": "a", "prompt": "b"}', "both prompt and text"),
    (b'{"text": "a", "text": "b"}', "key 'text' is given twice"),
    (b'{"text": "a", "truth": {"x": 1, "x": 2}}', "key 'x' is given twice"),
    (b'{"text": "a", "truth": NaN}', "NaN is not JSON"),
    (b'{"text": "a", "truth": -Infinity}', "-Infinity is not JSON"),
    (b'{"text": "a", "truth": 1e999}', "too large a number"),
    (b'{"text": "a", "truth": ' + b"9" * 5000 + b"}", "not JSON"),
    (b'{"text": "half \\ud83d"}', "not JSON"),
    (b'{"text": "caf\xe9"}', "not JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"text": "' + b"a" * MAX_LINE + b'"}', "a line of over"),
    (b'{"text": "' + b"a" * 200_000 + b'"}', "characters, at most"),
    (b'{"image": "0.png", "images": ["1.png"]}', "both image and images"),
    (b'{"image": ["0.png"]}', "not a path"),
    (b'{"image": 3}', "not a path"),
    (b'{"image": ""}', "not a path"),
    (b'{"images": "0.png"}', "not a list"),
    (b'{"images": [null]}', "not a path"),
    (b'{"images": [' + b",".join([b'"0.png"'] * 65) + b"]}", "has 65 images"),
    (b'{"image": "nothing.png"}', "no such file"),
    (b'{"image": "words.png"}', "not a picture but text"),
    (b'{"image": "sub"}', "a folder, not a file"),
    (b'{"image": "a\\u0000.png"}', "NUL"),
    (b'{"image": "/etc/passwd"}', "not under the manifest's folder"),
    (b'{"image": "../secret.png"}', "not under the manifest's folder"),
    (b'{"image": "sub/../../secret.png"}', "not under the manifest's folder"),
    (b'{"image": "link.png"}', "a link out of"),
    (b'{"image": "file:///etc/passwd"}', "an address, not a path"),
    (b'{"image": "http://127.0.0.1/x.png"}', "an address, not a path"),
    (b'{"image": "data:image/png;base64,AAAA"}', "an address, not a path"),
    (b'{"text": "a", "id": true}', "id is True"),
    (b'{"text": "a", "id": {"a": 1}}', "not text or a whole number"),
    (b'{"text": "a", "id": "two\\nlines"}', "not printable"),
    (b'{"text": "a", "id": ""}', "is empty"),
    (b'{"text": "a", "id": "good"}', "id 'good' was used by m.jsonl:1"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_bad_line_is_told_by_number_and_reason(root: Path, line: bytes, reason: str) -> None:
    path = manifest(root, {"text": "before", "id": "good"}, line, {"text": "after"})
    with pytest.warns(UserWarning, match="1 of 3 left out"):
        listing = jsonl(path, max_bad=0.5)
    assert [sample.prompt.question for sample in listing] == ["before", "after"]
    ((where, why),) = listing.refused
    assert where == "m.jsonl:2" and reason in why and len(why) < 300


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
    assert len(listing) + len(listing.refused) + listing.duplicates == wanted
    shown = {media.uri for sample in listing for media in sample.prompt.media}
    assert shown <= {str(root / "0.png"), str(root / "1.png")}
    assert len({sample.id for sample in listing}) == len(listing)
