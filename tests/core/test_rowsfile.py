import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Demo, Group, Origin, Pair
from vlm_selfalign.core.rowsfile import RowsFile, write_rows

PROMPT = Prompt.user("What?")


def demo(sample, index=0, answer="yes"):
    return Demo(origin=Origin(sample=sample, stage="s"), index=index, prompt=PROMPT, answer=answer)


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3)), max_size=20))
@settings(max_examples=30, deadline=None)
def test_rows_by_sample_and_in_order(tmp_path_factory, counts):
    counts = dict(counts)
    rows = [demo(sample, index) for sample in sorted(counts) for index in range(counts[sample])]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    assert write_rows(path, iter(rows)) == len(rows)
    found = RowsFile(path)
    assert list(found) == rows and list(found) == rows and len(found) == len(rows)
    for sample in counts:
        assert found.of(sample) == [row for row in rows if row.origin.sample == sample]
    assert found.of("not there") == []


def test_every_kind_comes_back_exactly(tmp_path):
    origin = Origin(sample="é\ud800", stage="s", round=2)
    rows = [
        Pair(prompt=PROMPT, chosen="\u2028", rejected="\n", margin=math.inf, chosen_spans=((0, 1),), origin=origin),
        Group(prompt=PROMPT, completions=("a", "b"), scores=(-math.inf, 0.1 + 0.2), origin=origin),
        Demo(prompt=PROMPT, answer="\ud800", notes={"x": [1, None, {"y": 5e-324}]}, origin=origin),
    ]
    write_rows(tmp_path / "a", rows)
    write_rows(tmp_path / "b", (row.model_dump(mode="json") for row in rows[:1]))
    assert list(RowsFile(tmp_path / "a")) == rows == RowsFile(tmp_path / "a").of("é\ud800")
    assert list(RowsFile(tmp_path / "b")) == rows[:1]


def test_order_in_the_file_is_free(tmp_path):
    rows = [demo("b"), demo("a"), demo("b", 1)]
    write_rows(tmp_path / "a", rows)
    assert RowsFile(tmp_path / "a").of("b") == [rows[0], rows[2]]


def test_an_index_stays_true_to_the_file_it_was_built_from(tmp_path):
    write_rows(tmp_path / "a", [demo("a", answer="old")])
    rows = RowsFile(tmp_path / "a")
    assert len(rows) == 1
    write_rows(tmp_path / "a", [demo("0", answer="a longer first row"), demo("a", answer="new")])
    assert [row.answer for row in rows.of("a")] == ["old"] == [row.answer for row in rows]
    assert [row.answer for row in RowsFile(tmp_path / "a").of("a")] == ["new"]


def test_a_failing_source_of_rows_leaves_the_old_file(tmp_path):
    def rows():
        yield demo("a", answer="new")
        raise KeyError("bug")

    write_rows(tmp_path / "a", [demo("a", answer="old")])
    with pytest.raises(KeyError):
        write_rows(tmp_path / "a", rows())
    assert [row.answer for row in RowsFile(tmp_path / "a")] == ["old"]


@pytest.mark.parametrize(
    ("line", "says"),
    [(b"{", "line 2"), (b'{"origin":{"sample":"a"},"kind":"demo"}', "prompt"), (b"[]", "line 2"), (b"\xff", "line 2")],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, says):
    write_rows(tmp_path / "a", [demo("a")])
    with (tmp_path / "a").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UserError, match=says) as error:
        list(RowsFile(tmp_path / "a"))
    assert str(tmp_path / "a") in str(error.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="not finished"):
        len(RowsFile(tmp_path / "a"))
