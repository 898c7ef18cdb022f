import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.core.seeds import digest
from vlm_selfalign.core.segments import Corrupt, Segments

from .faults import fast_folder

SMALL = {"segment_bytes": 2000}


def key(number):
    return digest(number)


def batch(start, stop):
    return [(key(i), {"n": i, "text": "x" * (i * 31 % 90)}) for i in range(start, stop)]


def numbers(segments):
    return [payload["n"] for _, payload in segments]


def merged(records):
    return {"n": records[0]["n"], "parts": [part for record in records for part in record.get("parts", [0])]}


@pytest.fixture
def fast_path():
    with fast_folder() as folder:
        yield folder


# What it keeps


def test_keeps_everything_in_order_over_reopening(tmp_path):
    folder = tmp_path / "log"
    for start in range(0, 100, 10):
        with Segments(folder, **SMALL) as segments:
            segments.append(batch(start, start + 10))
    segments = Segments(folder, **SMALL)
    assert numbers(segments) == list(range(100)) and len(segments) == 100
    assert len(list(folder.glob("*.index"))) >= 4
    assert all(key(i) in segments and segments.first(key(i))["n"] == i for i in range(100))
    assert key(100) not in segments and segments.first(key(100)) is None and segments.get(key(100)) == []


def test_the_first_record_of_a_key_counts_and_all_are_kept(tmp_path):
    with Segments(tmp_path, **SMALL) as segments:
        for version in range(50):
            segments.append([(key("a"), {"n": version, "pad": "x" * 100})])
        assert segments.first(key("a"))["n"] == 0
        assert [payload["n"] for payload in segments.get(key("a"))] == list(range(50))
        assert [payload["n"] for _, payload in segments.ordered("pad")] == [0]


def test_looking_changes_nothing(tmp_path):
    assert list(Segments(tmp_path / "none", write=False)) == []
    assert not (tmp_path / "none").exists()
    with Segments(tmp_path, **SMALL) as segments:
        segments.append(batch(0, 30))
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert numbers(Segments(tmp_path, write=False)) == list(range(30))
        with pytest.raises(ValueError, match="read only"):
            Segments(tmp_path, write=False).append(batch(0, 1))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_reader_goes_on_while_the_writer_seals(tmp_path):
    with Segments(tmp_path, merge=merged) as writer:
        writer.append([(key(i % 5), {"n": i % 5}) for i in range(50)])
        reader = Segments(tmp_path, write=False)
        writer.seal()
        writer.append(batch(100, 110))
        assert len(reader.get(key(3))) == 10
        assert len(Segments(tmp_path, write=False)) == 15


def test_refuses_keys_that_are_not_128_bits(tmp_path):
    with pytest.raises(ValueError, match="32 hex"):
        Segments(tmp_path).append([("abcd", {})])
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        Segments(tmp_path).append([(key(0), object())])


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers()), max_size=5), max_size=12), st.integers(60, 400))
@settings(max_examples=40, deadline=None)
def test_behaves_like_a_dict_of_lists(tmp_path_factory, batches, segment_bytes):
    folder = tmp_path_factory.mktemp("log")
    model: dict[str, list[int]] = {}
    for items in batches:
        with Segments(folder, segment_bytes=segment_bytes) as segments:
            segments.append([(key(name), value) for name, value in items])
            for name, value in items:
                model.setdefault(key(name), []).append(value)
            assert {name: segments.get(name) for name in model} == model
    segments = Segments(folder, segment_bytes=segment_bytes)
    assert {name: segments.get(name) for name in model} == model
    assert len(segments) == sum(map(len, model.values())) == len(list(segments))


@given(st.lists(st.text(max_size=5), unique=True, max_size=40), st.randoms())
@settings(max_examples=30, deadline=None)
def test_ordered_sorts_as_python_does(tmp_path_factory, names, rng):
    names = [name.rstrip("\0") for name in names]
    shuffled = list(dict.fromkeys(names))
    rng.shuffle(shuffled)
    with Segments(tmp_path_factory.mktemp("log"), segment_bytes=300) as segments:
        for name in shuffled:
            segments.append([(key(name), {"sample": name})])
        found = [payload["sample"] for _, payload in segments.ordered("sample")]
    assert found == sorted(shuffled)


# Sealing


def test_sealing_merges_the_records_of_a_key(tmp_path):
    with Segments(tmp_path, merge=merged, segment_bytes=4000) as segments:
        for part in range(8):
            segments.append([(key(i), {"n": i, "parts": [part]}) for i in range(20)])
    segments = Segments(tmp_path, merge=merged, segment_bytes=4000)
    for i in range(20):
        assert [part for record in segments.get(key(i)) for part in record["parts"]] == list(range(8))
    assert len(segments) < 160
    segments.seal()
    assert len(segments) == len(list(segments)) <= 60


def test_a_missing_or_damaged_index_is_built_again(tmp_path, caplog):
    with Segments(tmp_path, **SMALL) as segments:
        for start in range(0, 60, 10):
            segments.append(batch(start, start + 10))
    first, second = sorted(tmp_path.glob("*.index"))[:2]
    whole = first.read_bytes()
    first.unlink()
    second.write_bytes(b"garbage")
    assert numbers(Segments(tmp_path, **SMALL)) == list(range(60))
    assert first.read_bytes() == whole
    assert caplog.text.count("built again") == 2


def test_a_sealed_segment_holds_no_python_object_per_record(tmp_path):
    with Segments(tmp_path) as segments:
        segments.append(batch(0, 5000))
        segments.seal()
        assert not segments._open
        columns = (segments._sealed.upper, segments._sealed.lower, segments._sealed.place)
        assert sum(column.nbytes for column in columns) == 24 * 5000


# Power cuts and rot


@pytest.mark.parametrize("kind", ["cut", "zeros", "garbage"])
def test_torn_tails_lose_nothing_that_was_synced(fast_path, caplog, kind):
    rng = random.Random(kind)
    for trial in range(50):
        folder = fast_path / str(trial)
        synced = rng.choice([0, 10, 40])
        with Segments(folder) as segments:
            for start in range(0, synced, 10):
                segments.append(batch(start, start + 10))
            end = segments._end
            segments.append(batch(50, 60))
        path = folder / "000000.log"
        data = bytearray(path.read_bytes())
        start, stop = sorted(rng.sample(range(end, len(data) + 1), 2))
        if kind == "cut":
            del data[start:]
        else:
            data[start:stop] = bytes(stop - start) if kind == "zeros" else rng.randbytes(stop - start)
        path.write_bytes(data)
        caplog.clear()
        with Segments(folder) as segments:
            found = numbers(segments)
            assert found[:synced] == list(range(synced))
            assert found[synced:] == list(range(50, 50 + len(found) - synced))
            assert len(data) == path.stat().st_size + segments.cut
            assert segments.cut == 0 or f"cut {segments.cut} bytes" in caplog.text
            assert kind == "cut" or segments.cut
            segments.append(batch(60, 70))
            assert numbers(segments) == [*found, *range(60, 70)]
        assert Segments(folder).cut == 0


def test_every_flipped_bit_in_old_data_is_noticed(tmp_path, caplog):
    with Segments(tmp_path, **SMALL) as segments:
        for start in range(0, 60, 10):
            segments.append(batch(start, start + 10))
    paths = sorted(tmp_path.iterdir())
    rng = random.Random(2)
    for _ in range(120):
        path = rng.choice(paths)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        place = rng.randrange(len(whole) * 8)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        caplog.clear()
        try:
            with Segments(tmp_path, **SMALL, write=False) as segments:
                found = numbers(segments)
            if path.suffix == ".index":
                assert "built again" in caplog.text and found == list(range(60))
            else:  # the last batch, where damage cannot be told from a torn write
                assert segments.cut and path == paths[-1] and found[:50] == list(range(50))
        except Corrupt as error:
            assert error.file == path and error.offset <= place // 8
            with Segments(tmp_path, **SMALL, write=False, damaged="skip") as segments:
                found = numbers(segments)
            assert segments.skipped >= 1 and len(found) in (58, 59)
        path.write_bytes(whole)


def test_a_flipped_bit_is_noticed_by_whoever_reads_that_key(tmp_path):
    with Segments(tmp_path) as segments:
        segments.append(batch(0, 10))
        segments.seal()
    path = tmp_path / "000000.log"
    path.write_bytes(path.read_bytes().replace(b'"n":7', b'"n":6'))
    segments = Segments(tmp_path)
    assert segments.first(key(8))["n"] == 8
    with pytest.raises(Corrupt, match=r"000000\.log: damaged at byte \d+ .*rename it"):
        segments.first(key(7))
    assert Segments(tmp_path, damaged="skip").first(key(7)) is None


def test_a_damaged_segment_can_be_set_aside(tmp_path, caplog):
    with Segments(tmp_path, **SMALL) as segments:
        for start in range(0, 60, 10):
            segments.append(batch(start, start + 10))
    (tmp_path / "000001.log").rename(tmp_path / "000001.log.bad")
    with Segments(tmp_path, **SMALL) as segments:
        assert "set aside" in caplog.text
        missing = [i for i in range(60) if key(i) not in segments]
        assert 0 < len(missing) < 30
        segments.append([item for item in batch(0, 60) if item[1]["n"] in missing])
    assert sorted(numbers(Segments(tmp_path, **SMALL))) == list(range(60))


def test_lost_files_and_lost_ends_are_noticed(tmp_path):
    with Segments(tmp_path, **SMALL) as segments:
        for start in range(0, 60, 10):
            segments.append(batch(start, start + 10))
    path = tmp_path / "000001.log"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    with pytest.raises(Corrupt, match="its index says"):
        Segments(tmp_path, **SMALL)
    path.unlink()
    with pytest.raises(Corrupt, match="missing"):
        Segments(tmp_path, **SMALL)
