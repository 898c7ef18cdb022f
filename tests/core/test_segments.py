import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.core.errors import TryAgain, UserError
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.core.segments import Corrupt, Segments

from .faults import failing_at, fast_folder, killed_at

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


# Kills


WRITER = """
import sys
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.core.segments import Segments
def merge(records):
    return records[0]
segments = Segments(sys.argv[1], segment_bytes=20_000, merge=merge)
done = 0
while digest(done) in segments:
    done += 1
print("open", len(segments), flush=True)
while done < 20_000:
    segments.append([(digest(i), {"n": i, "text": "x" * (i * 31 % 300)}) for i in range(done, done + 16)])
    done += 16
    print(done, flush=True)
"""


def test_kill_minus_nine_at_random_moments_loses_nothing_and_repeats_nothing(tmp_path):
    rng = random.Random(0)
    confirmed = 0
    for _ in range(12):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        assert int(process.stdout.readline().split()[1]) - confirmed in range(17)
        time.sleep(rng.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        confirmed = int(told[-1]) if told else confirmed
        with Segments(tmp_path, write=False) as segments:
            found = numbers(segments)
            confirmed = max(confirmed, len(found) // 16 * 16)
        counted = Counter(found)
        assert set(range(int(told[-1]) if told else 0)) <= set(counted)  # lost: none
        assert max(counted.values(), default=1) == 1  # twice: none
    assert confirmed > 500


def everything(folder):
    with Segments(folder, **SMALL, merge=merged) as segments:
        segments.append([(key(i), {"n": i, "parts": [i]}) for i in range(10)])
        segments.append([(key(i), {"n": i, "parts": [i + 100]}) for i in range(5)])
        for start in range(10, 80, 10):
            segments.append(batch(start, start + 10))
        segments.seal()


def test_a_kill_at_every_system_call_leaves_a_log_that_goes_on(fast_path):
    number, alive = 1, True
    while alive:
        folder = fast_path / str(number)
        alive = killed_at(number, lambda folder=folder: everything(folder))
        with Segments(folder, **SMALL, merge=merged) as segments:
            found = numbers(segments)
            assert set(found) == set(range(len(set(found))))  # whole batches or their beginnings, in order
            rest = [i for i in range(80) if key(i) not in segments]
            segments.append([item for item in batch(0, 80) if item[1]["n"] in rest])
            parts = [part for record in segments.get(key(3)) for part in record.get("parts", [0])]
            assert parts in ([3], [3, 103], [0])  # never half a merge, never twice
        assert set(numbers(Segments(folder, **SMALL))) == set(range(80))
        number += 1
    assert number > 40


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failure_at_every_system_call_loses_nothing_and_goes_on(fast_path, code):
    number, made = 1, [""]
    while number <= len(made):
        folder = fast_path / str(number)
        segments = Segments(folder, **SMALL, merge=merged)
        confirmed: set[int] = set()
        failures = 0
        with failing_at(number, code) as made:
            for start in (*range(0, 80, 10), *range(0, 80, 10)):
                again = True
                while again:
                    again = False
                    try:
                        segments.append([(k, p) for k, p in batch(start, start + 10) if k not in segments])
                        confirmed |= set(range(start, start + 10))
                    except TryAgain as error:
                        failures, again = failures + 1, True
                        assert "run the same command" in str(error)
                        assert set(numbers(segments)) == confirmed
        assert failures <= 1
        assert sorted(numbers(segments)) == list(range(80))
        segments.close()
        assert sorted(numbers(Segments(folder, **SMALL))) == list(range(80))
        number += 1
    assert number > 25


def test_a_disk_that_stays_full_keeps_what_it_has(tmp_path):
    segments = Segments(tmp_path)
    segments.append(batch(0, 10))
    with failing_at(1, errno.ENOSPC, for_ever=True):
        for _ in range(3):
            with pytest.raises(TryAgain, match="free some space"):
                segments.append(batch(10, 20))
            assert numbers(segments) == list(range(10))
    assert numbers(Segments(tmp_path, write=False))[:10] == list(range(10))  # what a kill now would leave
    segments.append(batch(10, 20))
    assert numbers(segments) == list(range(20)) == numbers(Segments(tmp_path))


def test_a_real_limit_on_file_size_is_a_full_disk(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    segments = Segments(tmp_path)
    segments.append(batch(0, 10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(TryAgain, match=r"000000\.log"):
            segments.append(batch(10, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert numbers(Segments(tmp_path)) == list(range(10))
    segments.append(batch(10, 100))
    assert numbers(Segments(tmp_path)) == list(range(100))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
def test_a_real_full_disk(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        segments = Segments(tmp_path / "log", segment_bytes=20_000, merge=merged)
        (tmp_path / "ballast").write_bytes(bytes(100_000))
        done = 0
        with pytest.raises(TryAgain, match="free some space"):
            while done < 10_000:
                segments.append(batch(done, done + 16))
                done += 16
        assert done > 100 and numbers(segments) == list(range(done))
        (tmp_path / "ballast").unlink()
        segments.append(batch(done, done + 16))
        segments.close()
        assert numbers(Segments(tmp_path / "log")) == list(range(done + 16))
        segments.close()
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_folder_that_cannot_be_written_is_the_users_to_solve(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="out="):
        Segments(tmp_path / "file" / "log").append(batch(0, 1))
    with failing_at(1, errno.EROFS), pytest.raises(UserError, match="writable"):
        Segments(tmp_path).append(batch(0, 1))


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
