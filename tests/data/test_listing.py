"""The account of a source: what is in, what is out and why, in little memory."""

from __future__ import annotations

import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.data.listing import REPEATED, Entries, Entry, Listing, Refusal


def picture(uri: str, content_hash: str = "00") -> Media:
    return Media(kind="image", uri=uri, content_hash=content_hash)


def test_an_entry_is_a_sample() -> None:
    entry = Entry("Why?", (picture("a.png"), picture("b.png", "11")), {"x": 1})
    sample = entry.sample()
    assert sample.id == sample.prompt.digest
    assert sample.truth == {"x": 1} and [m.uri for m in sample.prompt.media] == ["a.png", "b.png"]
    assert Entry("Why?", (picture("elsewhere.png"),)).key == Entry("Why?", (picture("a.png"),)).key
    assert Entry("Why?", (picture("a.png"),)).key != Entry("Why?", (picture("a.png", "01"),)).key


def test_another_part_of_a_clip_is_another_sample() -> None:
    clip = Media(kind="video", uri="a.mp4", content_hash="00")
    parts = [clip, clip.model_copy(update={"start": 1.0}), clip.model_copy(update={"start": 1.0, "end": 2.5})]
    parts += [picture("a.mp4")]
    assert len({Entry("Why?", (part,)).key for part in parts}) == 4


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
seconds = st.none() | st.floats(0.001, 1e6)
media = st.builds(
    Media, kind=st.sampled_from(["image", "video"]), uri=st.text(), content_hash=st.text(), start=seconds, end=seconds
)
entries = st.builds(Entry, st.text(), st.lists(media, max_size=3).map(tuple), json_values, st.none() | st.text())


@given(st.lists(entries, max_size=4))
def test_packing_loses_nothing(given: list[Entry]) -> None:
    packed = Entries()
    for entry in given:
        packed.append(entry)
    assert list(packed) == given and packed[1:] == given[1:] and len(packed) == len(given)
    assert [entry.key for entry in packed] == [entry.key for entry in given]


def test_the_account() -> None:
    found = [Entry("a"), Refusal("2", "bad", "why"), Entry("a"), Entry("b"), Entry("c")]
    listing = Listing("m").take(iter(found), limit=2)
    assert [s.prompt.question for s in listing] == ["a", "b"]
    assert listing.refused == [("2", "bad", "why")] and listing.repeats == {REPEATED: 1}
    with pytest.warns(UserWarning, match=r"m: 1 of 4 left out; first: 2: bad \(why\)"):
        assert listing.checked(0.25) is listing
    with pytest.raises(UserError, match="1 of 4 cannot be used"):
        listing.checked(0.24)
    with pytest.raises(UserError, match="holds no rows"):
        Listing("m").checked(1)
    with pytest.raises(UserError, match=r"1 of 1 cannot be used; correct them: 1: bad$"):
        Listing("m").take([Refusal("1", "bad")], None).checked(1)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="object sizes")
def test_a_million_entries_fit() -> None:
    tracemalloc.start()
    found = (Entry("Describe.", (picture(f"/photos/{n:08}.jpg", f"{n:032x}"),)) for n in range(10_000))
    listing = Listing("m").take(found, None)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing) == 10_000
    assert size / 10_000 < 160
