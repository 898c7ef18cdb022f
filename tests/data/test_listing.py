"""The account of a source: what is in, what is out and why, in little memory."""

from __future__ import annotations

import sys
import tracemalloc

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.listing import Entry, Listing


def test_an_entry_is_a_sample() -> None:
    entry = Entry("Why?", (("a.png", "00"), ("b.png", "11")), {"x": 1})
    sample = entry.sample()
    assert sample.id == sample.prompt.digest
    assert sample.truth == {"x": 1} and [m.uri for m in sample.prompt.media] == ["a.png", "b.png"]
    assert Entry("Why?", (("elsewhere.png", "00"),)).key == Entry("Why?", (("a.png", "00"),)).key
    assert Entry("Why?", (("a.png", "00"),)).key != Entry("Why?", (("a.png", "01"),)).key


def test_the_account() -> None:
    found = [("1", Entry("a")), ("2", "bad"), ("3", Entry("a")), ("4", Entry("b")), ("5", Entry("c"))]
    listing = Listing("m").take(iter(found), limit=2)
    assert [s.prompt.question for s in listing] == ["a", "b"]
    assert listing.refused == [("2", "bad")] and listing.duplicates == 1
    with pytest.warns(UserWarning, match="m: 1 of 4 left out; first: 2: bad"):
        assert listing.checked(0.25) is listing
    with pytest.raises(UserError, match="1 of 4 cannot be used"):
        listing.checked(0.24)
    with pytest.raises(UserError, match="holds no rows"):
        Listing("m").checked(1)
    with pytest.raises(UserError, match="1 of 1 cannot be used; correct them: 1: bad"):
        Listing("m").take([("1", "bad")], None).checked(1)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="object sizes")
def test_a_million_entries_fit() -> None:
    tracemalloc.start()
    found = ((str(n), Entry("Describe.", ((f"/photos/{n:08}.jpg", f"{n:032x}"),))) for n in range(10_000))
    listing = Listing("m").take(found, None)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing) == 10_000
    assert size / 10_000 < 500
