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

from vlm_selfalign.core.errors import TryAgain, UserError
from vlm_selfalign.core.segments import Segments

from .faults import failing_at, killed_at
from .test_segments import SMALL, batch, fast_path, key, merged, numbers

__all__ = ["fast_path"]


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
