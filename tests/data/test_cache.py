"""What is remembered about files is right or forgotten, whatever happens to where it is kept."""

from __future__ import annotations

import multiprocessing
import os
import random
import warnings
from pathlib import Path

import pytest

from vlm_selfalign.core.ledger import MARKER
from vlm_selfalign.data.cache import VARIABLE, Cache, cache_folder

pytestmark = pytest.mark.timeout(60)


def value(number: int) -> bytes:
    return number.to_bytes(4, "big") * 4


def fill(folder: Path, numbers: range) -> None:
    with Cache(folder) as cache:
        for number in numbers:
            cache.put(value(number), "x", number)
            if number % 10 == 0:
                cache.flush()


def test_values_are_found_again(tmp_path: Path) -> None:
    fill(tmp_path / "c", range(50))
    with Cache(tmp_path / "c") as cache:
        assert [cache.get("x", number) for number in range(50)] == [value(number) for number in range(50)]
        assert cache.get("x", 50) is None and cache.get("y", 1) is None and cache.get("x", "1") is None
        cache.put(b"", "empty")
        cache.put(value(7), "x", 1)
        assert cache.get("empty") == b"" and cache.get("x", 1) == value(7)
    with Cache(tmp_path / "c") as cache:
        assert cache.get("empty") == b"" and cache.get("x", 1) == value(7)
    assert (tmp_path / "c" / MARKER).exists()


def test_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv(VARIABLE, "")
    assert cache_folder() is None
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vlm_selfalign"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "vlm_selfalign"


def test_without_a_place_it_lives_as_long_as_the_object() -> None:
    with Cache(None) as cache:
        cache.put(b"a", 1)
        assert cache.get(1) == b"a"


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    writers = [spawn.Process(target=fill, args=(tmp_path, range(k * 100, k * 100 + 300))) for k in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(50)
    assert [writer.exitcode for writer in writers] == [0] * 4
    with Cache(tmp_path) as cache:
        assert all(cache.get("x", number) == value(number) for number in range(600))


def test_rot_is_never_believed(tmp_path: Path) -> None:
    fill(tmp_path, range(200))
    whole = (tmp_path / "known.sqlite").read_bytes()
    lost = 0
    for trial in range(40):
        rng = random.Random(trial)
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 20, 2000])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if trial % 5 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        (tmp_path / "known.sqlite").write_bytes(damaged)
        with warnings.catch_warnings(action="ignore"), Cache(tmp_path) as cache:
            for number in range(200):
                found = cache.get("x", number)
                assert found in (None, value(number))
                lost += found is None
    assert lost > 200


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "known.sqlite").write_bytes(b"words " * 1000)
    fill(tmp_path, range(5))
    with Cache(tmp_path) as cache:
        assert cache.get("x", 3) == value(3)


def test_a_grown_file_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, range(500))
    monkeypatch.setattr("vlm_selfalign.data.cache.MAX_BYTES", 10_000)
    with Cache(tmp_path) as cache:
        assert cache.get("x", 3) is None
    assert (tmp_path / "known.sqlite").stat().st_size < 10_000


def test_where_nothing_can_be_written_it_says_so_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be used"), Cache(tmp_path / "file" / "cache") as cache:
        cache.put(b"a", 1)
        assert cache.get(1) == b"a"


def test_what_a_killed_process_had_written_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(b"a", 1)
    cache.flush()
    cache.put(b"b", 2)  # and the process is gone
    with Cache(tmp_path) as other:
        assert other.get(1) == b"a" and other.get(2) is None
    cache.close()
