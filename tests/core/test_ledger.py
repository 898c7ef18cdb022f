import errno
import json
import math
import struct
import subprocess
import sys
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.core.errors import TryAgain, UserError
from vlm_selfalign.core.ledger import MARKER, Corrupt, Ledger, RowsFile, holder, open_run, read_run, write_rows
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import REPLIES, Chosen, Failed, Scored, Text, Value
from vlm_selfalign.core.rows import Demo, Origin

from .faults import failing_at, fast_folder, killed_at

FLOATS = st.floats()
NUMBERS = st.lists(FLOATS, max_size=3).map(tuple)
IDS = st.lists(st.integers(0, 2**31), max_size=3).map(tuple)
WORDS = st.text(st.characters(codec=None, categories=None), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
ANSWERS = st.one_of(
    st.builds(Text, text=WORDS, ids=IDS, logprobs=st.none() | NUMBERS, certainty=st.none() | NUMBERS),
    st.builds(lambda numbers: Chosen(choices=tuple("abc")[: len(numbers)], logprobs=numbers), NUMBERS),
    st.builds(
        Scored,
        ids=IDS,
        logprobs=NUMBERS,
        top_k=st.none() | st.lists(st.lists(st.tuples(st.integers(0, 9), FLOATS), max_size=2).map(tuple)).map(tuple),
    ),
    st.builds(Value, value=JSON),
    st.builds(Failed, reason=WORDS),
)


def exact(value):
    """The value with floats as their bits: NaN equals itself, -0.0 does not equal 0.0."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, (list, tuple)) else value


def text(content):
    return Text(text=content, logprobs=(-0.25,))


# Replies


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "é"]), st.integers(0, 5).map(str), ANSWERS)), st.data())
@settings(max_examples=60, deadline=None)
def test_replies_come_back_exactly_however_they_were_batched_and_sealed(triples, data):
    with fast_folder() as folder:
        check_replies(folder, triples, data)


def check_replies(folder, triples, data):
    wanted = {}
    with Ledger(folder) as ledger:
        for sample, key, reply in triples:
            ledger.remember([(sample, key, reply)])
            if isinstance(wanted.get((sample, key), Failed(reason="")), Failed):
                wanted[sample, key] = reply
            if data.draw(st.booleans()):
                ledger.seal()
    with Ledger(folder) as ledger:
        found = {(sample, key): reply for sample in ("a", "b", "é") for key, reply in ledger.replies(sample).items()}
    assert {k: (type(r), exact(r.model_dump())) for k, r in found.items()} == {
        k: (type(r), exact(r.model_dump())) for k, r in wanted.items()
    }


def test_every_kind_of_reply_is_tried():
    assert set(REPLIES) == {"Text", "Chosen", "Scored", "Value", "Failed"}


def test_a_batch_of_many_samples_is_one_sync(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.remember([("first", "k", text("x"))])  # makes the file
        with failing_at(0) as made:
            ledger.remember([(f"s{i}", f"k{j}", text("x")) for i in range(10) for j in range(5)])
        assert made == ["pwrite", "fsync"]
        assert all(len(ledger.replies(f"s{i}")) == 5 for i in range(10))


def test_sealing_makes_one_record_of_a_samples_replies(tmp_path):
    with Ledger(tmp_path) as ledger:
        for key in range(20):
            ledger.remember([(f"s{i}", str(key), text(f"{i} {key}")) for i in range(5)])
        before = {i: ledger.replies(f"s{i}") for i in range(5)}
        ledger.seal()
        assert {i: ledger.replies(f"s{i}") for i in range(5)} == before
    log = (tmp_path / "ledger" / "replies" / "000000.log").read_text().splitlines()
    assert len(log) == 5


def test_a_failure_gives_way_to_a_later_answer_and_nothing_else_does(tmp_path):
    with Ledger(tmp_path) as ledger:
        for reply in (Failed(reason="away"), Failed(reason="again"), text("first"), text("second"), Failed(reason="x")):
            ledger.remember([("s", "k", reply)])
        assert ledger.replies("s") == {"k": text("first")}
        ledger.seal()
        assert ledger.replies("s") == {"k": text("first")}


def test_a_full_disk_can_be_tried_again(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.remember([("s", "a", text("x"))])
        with failing_at(2, errno.ENOSPC), pytest.raises(TryAgain, match="free some space"):
            ledger.remember([("s", "b", text("y"))])
        assert set(ledger.replies("s")) == {"a"}
        ledger.remember([("s", "b", text("y"))])
    with Ledger(tmp_path, write=False) as ledger:
        assert set(ledger.replies("s")) == {"a", "b"}


# Finished samples, values


def test_finished_samples_become_the_rows_of_a_stage_in_order_of_id(tmp_path):
    prompt = Prompt.user("What?")

    def row(sample):
        return Demo(origin=Origin(sample=sample, stage="s"), prompt=prompt, answer=sample)

    with Ledger(tmp_path) as ledger:
        done = ledger.finished("0-s")
        assert ledger.finished("0-s") is done
        for place, name in enumerate(["c", "a", "b"]):
            done.append([(f"{place:032x}", {"sample": name, "rows": [row(name)], "drop": None})])
        ledger.seal()
        write_rows(tmp_path / "s.jsonl", (r for _, payload in done.ordered("sample") for r in payload["rows"]))
    assert list(RowsFile(tmp_path / "s.jsonl")) == [row("a"), row("b"), row("c")]


def test_a_value_is_kept_as_long_as_its_key_is_its_key(tmp_path):
    with Ledger(tmp_path) as ledger:
        assert ledger.recorded("0/graph", "k", "nothing") == "nothing"
        ledger.record("0/graph", "k", {"cat": {"dog": 0.1}, "none": None})
        ledger.record("0/none", "k", None)
    with Ledger(tmp_path, write=False) as ledger:
        assert ledger.recorded("0/graph", "k") == {"cat": {"dog": 0.1}, "none": None}
        assert ledger.recorded("0/none", "k", "nothing") is None
        assert ledger.recorded("0/graph", "other key", "nothing") == "nothing"


def test_every_damage_to_a_value_is_noticed(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.record("graph", "k", {"cat": 0.5})
        path = tmp_path / "ledger" / "values" / "graph.json"
        whole = path.read_bytes()
        noticed = 0
        for place in range(0, len(whole) * 8, 3):
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            path.write_bytes(damaged)
            try:
                assert ledger.recorded("graph", "k") == {"cat": 0.5}  # a space that became a tab changes nothing
            except Corrupt:
                noticed += 1
        assert noticed > len(whole) * 2


# The run folder


def test_the_same_config_opens_an_old_run_and_leaves_it_alone(tmp_path):
    config = {"stages": {"pairs": {"rate": 0.1, "in": (0, 1)}}, "seed": math.inf}
    folder = open_run(tmp_path / "runs" / "a", config, versions={"torch": "2"})
    before = (folder / "run.json").read_bytes()
    assert open_run(folder, config, versions={"torch": "2"}) == folder
    assert (folder / "run.json").read_bytes() == before
    assert read_run(folder)["config"]["stages"]["pairs"] == {"rate": 0.1, "in": [0, 1]}
    assert (folder / MARKER).exists()


@pytest.mark.parametrize(
    ("config", "versions", "says"),
    [
        ({"stages": {"pairs": {"rate": 0.2}}, "model": "m"}, {"torch": "2"}, "stages.pairs.rate: 0.1 -> 0.2"),
        ({"stages": {"pairs": {"rate": 0.1}}, "model": "n"}, {"torch": "2"}, 'model: "m" -> "n"'),
        ({"stages": {"pairs": {"rate": 0.1}}}, {"torch": "2"}, 'model: "m" -> nothing'),
        ({"stages": {"pairs": {"rate": 0.1, "x": {}}}, "model": "m"}, {"torch": "2"}, "stages.pairs.x: nothing -> {}"),
        ({"stages": {"pairs": {"rate": 0.1}}, "model": "m"}, {"torch": "3"}, 'versions.torch: "2" -> "3"'),
        ({"stages": {"pairs": 1}, "model": "m"}, {"torch": "2"}, "stages.pairs.rate: 0.1 -> nothing"),
    ],
)
def test_another_config_on_an_old_run_is_refused_with_the_difference(tmp_path, config, versions, says):
    folder = open_run(tmp_path / "a", {"stages": {"pairs": {"rate": 0.1}}, "model": "m"}, versions={"torch": "2"})
    before = (folder / "run.json").read_bytes()
    with pytest.raises(UserError) as error:
        open_run(folder, config, versions=versions)
    assert says in str(error.value) and "\n" not in str(error.value) and "out=" in str(error.value)
    assert (folder / "run.json").read_bytes() == before


def test_what_may_change_is_noted(tmp_path):
    folder = open_run(tmp_path / "a", {"training": {"micro_batch": 8}, "seed": 1})
    open_run(folder, {"training": {"micro_batch": 4}, "seed": 1}, may_change={"training"})
    run = read_run(folder)
    assert run["config"]["training"]["micro_batch"] == 4
    assert run["changes"][0]["was"] == {"training.micro_batch": "8"}
    with pytest.raises(UserError, match="seed") as error:
        open_run(folder, {"training": {"micro_batch": 2}, "seed": 2}, may_change={"training"})
    assert "micro_batch" not in str(error.value)


def test_many_differences_stay_one_line(tmp_path):
    folder = open_run(tmp_path / "a", {f"k{i}": 0 for i in range(30)})
    with pytest.raises(UserError, match="and 22 more"):
        open_run(folder, {f"k{i}": 1 for i in range(30)})


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"not empty \(cat.jpg"):
        open_run(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"schema": 99, "config": {}})])
def test_a_run_file_that_cannot_be_read_is_named(tmp_path, content):
    folder = open_run(tmp_path / "a", {})
    (folder / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json"):
        open_run(folder, {})
    with pytest.raises(UserError, match="no run folder"):
        read_run(tmp_path)


def test_a_kill_at_every_system_call_of_opening_leaves_a_folder_that_opens(tmp_path):
    number = 1
    while killed_at(number, partial(open_run, tmp_path / str(number), {"a": 1})):
        folder = open_run(tmp_path / str(number), {"a": 1})
        assert read_run(folder)["config"] == {"a": 1}
        number += 1
    assert number > 8


def test_two_processes_do_not_share_a_run(tmp_path):
    folder = open_run(tmp_path / "a", {})
    script = "import sys; from vlm_selfalign.core.ledger import Ledger; Ledger(sys.argv[1])"
    with Ledger(folder) as ledger:
        second = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True)
        assert second.returncode == 1 and "UserError" in second.stderr and "in use by process" in second.stderr
        assert "this process" in (holder(folder) or "")
        with Ledger(folder, write=False) as looking:
            ledger.remember([("s", "k", text("x"))])
            assert looking.replies("s") == {}
    assert holder(folder) is None
    Ledger(folder).close()
