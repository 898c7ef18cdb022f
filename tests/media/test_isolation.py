"""What a decoder can do to the process it runs in stays there: hangs, greed, death; and nothing is left of it."""

import contextlib
import errno
import operator
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vlm_selfalign.media import isolation, readers, shared
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.isolation import Limits, isolated
from vlm_selfalign.media.video import load_video

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")

SHORT = Limits(seconds=0.5)
SMALL = Limits(seconds=20, memory=300 << 20)
HANGS = (r"(a+)+$", "a" * 40 + "b")
"""A pattern that is matched for years, inside C, with the interpreter's lock held."""


def test_the_result_is_that_of_the_function():
    clip = isolated(_stubs().make, 3)
    assert isinstance(clip, Clip) and clip.reasons == ("made",) and clip.fps == 25.0
    assert np.array_equal(clip.times, np.arange(3.0))
    assert np.array_equal(clip.frames, np.full((3, 200, 300, 3), 7, np.uint8))
    clip.frames[0] = 9  # its own memory, to be written to as any other
    assert clip.frames[0, 0, 0, 0] == 9 and clip.frames[1, 0, 0, 0] == 7


@pytest.mark.parametrize("shape", [(0,), (5,), (1 << 16,), (3, 1 << 17)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_arrays_of_any_size_arrive(shape, dtype):
    found = isolated(np.ones, shape, dtype)
    assert found.dtype == dtype and np.array_equal(found, np.ones(shape))
    assert isolated(shared.empty, shape, dtype).shape == shape


def test_part_of_a_shared_array_arrives():
    whole, part = isolated(_stubs().parts)
    assert np.array_equal(whole, np.arange(1 << 18, dtype=np.uint8).reshape(4, -1)) and np.array_equal(part, whole[:2])


def test_the_child_is_kept_warm():
    first = isolated(os.getpid)
    assert first != os.getpid()
    assert [isolated(os.getpid) for _ in range(5)] == [first] * 5


def test_the_child_follows_us(tmp_path, monkeypatch):
    pid = isolated(os.getpid)
    (tmp_path / "found_later.py").write_text("def where():\n    return 'here'\n")
    (tmp_path / "clip.mp4").write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import found_later

    assert isolated(os.path.getsize, "clip.mp4") == 5 and isolated(found_later.where) == "here"
    assert isolated(os.getpid) == pid


def test_the_child_is_replaced_after_many_tasks(monkeypatch):
    monkeypatch.setattr(isolation, "TASKS", 3)
    isolation.close()
    pids = [isolated(os.getpid) for _ in range(7)]
    assert [len(set(pids[:3])), len(set(pids[3:6])), len(set(pids))] == [1, 1, 3]


def test_a_child_that_died_between_tasks_is_replaced():
    first = isolated(os.getpid)
    os.kill(first, signal.SIGKILL)
    time.sleep(0.1)
    assert isolated(os.getpid) != first


FAULTS = {
    "sleeps": (time.sleep, (60,), SHORT, "took longer than 0.5 s", ""),
    "hangs with the lock": (re.match, HANGS, SHORT, "took longer than 0.5 s", ""),
    "eats memory": (operator.mul, (b"x", 1 << 30), SMALL, "more memory than 300 MiB", ""),
    "asks for too much": (bytearray, (1 << 40,), SMALL, "more memory than 300 MiB", ""),
    "aborts": (os.abort, (), SMALL, "the decoder died", "SIGABRT"),
    "exits": (os._exit, (3,), SMALL, "the decoder died", "exit code 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_item_only(fault):
    function, args, limits, reason, detail = FAULTS[fault]
    before, shm = isolated(os.getpid), set(os.listdir("/dev/shm"))
    start = time.monotonic()
    with pytest.raises(MediaError) as caught:
        isolated(function, *args, limits=limits)
    assert time.monotonic() - start < limits.seconds + 2
    assert (caught.value.reason, caught.value.stage) == (reason, "decode")
    assert detail in caught.value.detail
    assert not _alive(before)
    assert isolated(operator.add, 1, 2) == 3
    assert set(os.listdir("/dev/shm")) == shm


STUB = """
    import ctypes, os, time
    def read(path, request):
        if "hang" in path:
            ctypes.PyDLL(None).sleep(60)  # the interpreter's lock is held
        if "eat" in path:
            held = [bytearray(b"x" * (1 << 26)) for _ in range(200)]
        if "die" in path:
            ctypes.string_at(0)
        return path
"""


@pytest.mark.parametrize("fault", ["hang", "eat", "die"])
def test_a_faulty_reader_costs_its_clip_only(fault, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stub_reader", raising=False)
    isolation.close()
    (tmp_path / "stub_reader.py").write_text(textwrap.dedent(STUB))
    monkeypatch.setitem(readers.READERS, "decord", "stub_reader")
    path = tmp_path / f"{fault}.mp4"
    path.write_bytes(b"x")
    start = time.monotonic()
    with pytest.raises(MediaError, match=rf"{fault}\.mp4: (took longer|more memory|the decoder died)"):
        load_video(path, backend="decord", limits=Limits(seconds=2, memory=400 << 20))
    assert time.monotonic() - start < 4
    assert isolated(readers.reader_of("decord"), "fine.mp4", None) == "fine.mp4"


def test_the_first_argument_names_the_item():
    with pytest.raises(MediaError, match=r"a\\xff\.mp4: the decoder died"):
        isolated(_stubs().die, b"a\xff.mp4")
    with pytest.raises(MediaError, match="abort: the decoder died"):
        isolated(os.abort)


def test_exceptions_arrive_as_they_are():
    with pytest.raises(MediaError) as caught:
        isolated(_stubs().refuse, "some.mp4")
    assert (caught.value.path, caught.value.reason, caught.value.stage, caught.value.detail) == (
        "some.mp4",
        "no frames",
        "header",
        "why",
    )
    with pytest.raises(FileNotFoundError) as missing:
        isolated(os.stat, "/does/not/exist")
    assert missing.value.errno == errno.ENOENT and "in _outcome" in missing.value.__notes__[0]


def test_what_cannot_travel_is_said_so_and_the_child_goes_on():
    pid = isolated(os.getpid)
    with pytest.raises(TypeError, match="the result cannot leave its process"):
        isolated(open, os.devnull)
    with pytest.raises(RuntimeError, match="Stubborn: needs two"):
        isolated(_stubs().stubborn)
    assert isolated(os.getpid) == pid


def test_a_child_knows_no_model_library():
    loaded = set(isolated(eval, "list(__import__('sys').modules)"))
    assert not loaded & {"torch", "transformers", "pandas", "scipy"}


def test_a_child_holds_none_of_our_files(tmp_path):
    with open(tmp_path / "ours", "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        held = isolated(eval, "[__import__('os').readlink(f'/proc/self/fd/{n}') for n in range(256) "
                              "if __import__('os').path.lexists(f'/proc/self/fd/{n}')]")  # fmt: skip
    assert str(tmp_path / "ours") not in held
    assert sorted(re.sub(r":.*", "", name) for name in held) == ["/dev/null", "/dev/null", "pipe", "socket"]


def test_neither_calls_nor_results_hold_descriptors():
    isolated(os.getpid)
    before, theirs = _open_files(), isolated(_stubs().open_files)
    held = [isolated(np.full, (1 << 17,), k % 256, np.uint8) for k in range(200)]
    assert _open_files() == before and isolated(_stubs().open_files) == theirs
    assert all((array == k % 256).all() for k, array in enumerate(held))


def test_threads_work_side_by_side():
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: isolated(time.sleep, 0.5), range(4)))
        start = time.monotonic()
        pids = set(threads.map(lambda _: isolated(_stubs().slow_pid), range(4)))
        assert len(pids) == 4 and time.monotonic() - start < 1.5
    assert isolated(os.getpid) in pids  # a child does not end with the thread that started it


def test_a_thread_that_ends_takes_no_child_with_it():
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(isolated(os.getpid)))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert isolated(os.getpid) == found[0]


def test_a_fork_gets_a_child_of_its_own():
    ours = isolated(os.getpid)
    read, write = os.pipe()
    if not (forked := os.fork()):
        with contextlib.suppress(BaseException):
            os.write(write, str(isolated(os.getpid)).encode())
        os._exit(0)
    os.waitpid(forked, 0)
    theirs = int(os.read(read, 20))
    os.close(read), os.close(write)
    assert theirs != ours and isolated(os.getpid) == ours
    _wait_until_gone(theirs)


@pytest.fixture
def interruptible():
    """Ctrl-C as an interpreter at a terminal takes it: processes in the background, and of a test runner, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupting_ends_the_task_and_its_child(interruptible):
    pid = isolated(os.getpid)
    os.kill(pid, signal.SIGINT)  # as if it stood in the terminal's foreground
    assert isolated(os.getpid) == pid
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        isolated(time.sleep, 30)
    assert not _alive(pid) and isolated(operator.add, 1, 2) == 3


PARENT = """
    import os, re, sys, threading
    from vlm_selfalign.media.isolation import isolated
    print(isolated(os.getpid), flush=True)
    {then}
"""


@pytest.mark.parametrize("then", [f"isolated(re.match, {HANGS[0]!r}, {HANGS[1]!r})", "input()"], ids=["busy", "idle"])
def test_a_child_ends_with_a_killed_parent(then):
    script = textwrap.dedent(PARENT.format(then=then))
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        assert _alive(pid)
        parent.kill()
    _wait_until_gone(pid)


@pytest.mark.parametrize("then", ["", "sys.exit(3)", "os._exit(0)", "raise RuntimeError"])
def test_a_child_ends_with_a_parent_that_ends(then):
    script = textwrap.dedent(PARENT.format(then=then))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    _wait_until_gone(int(done.stdout))
    assert "ResourceWarning" not in done.stderr


def test_a_system_without_shared_memory_runs_the_function_here(monkeypatch, caplog):
    monkeypatch.delattr("socket.send_fds")
    isolation._say_unguarded.cache_clear()
    assert isolated(os.getpid) == isolated(os.getpid) == os.getpid()
    assert len(caplog.records) == 1 and "without limits" in caplog.text


MODULE = '''
    """Functions that a child can import."""
    import os, time
    import numpy as np
    from vlm_selfalign.media import shared
    from vlm_selfalign.media.clip import Clip
    from vlm_selfalign.media.errors import MediaError

    def make(count):
        frames = np.full((count, 200, 300, 3), 7, np.uint8)
        return Clip(frames, np.arange(float(count)), np.arange(count), 25.0, count, 1.0, reasons=("made",))

    def parts():
        whole = shared.empty((4, 1 << 16))
        whole[:] = np.arange(1 << 18, dtype=np.uint8).reshape(4, -1)
        return whole, whole[:2]

    def refuse(path):
        raise MediaError(path, "no frames", "header", "why")

    def die(path):
        os.abort()

    class Stubborn(Exception):
        def __init__(self, one, two):
            super().__init__("needs two")

    def stubborn():
        raise Stubborn(1, 2)

    def open_files():
        return len(os.listdir("/proc/self/fd"))

    def slow_pid():
        time.sleep(0.5)
        return os.getpid()
'''


@pytest.fixture(autouse=True, scope="module")
def _module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("importable")
    (folder / "isolated_stubs.py").write_text(textwrap.dedent(MODULE))
    sys.path.insert(0, str(folder))
    isolation.close()  # a child knows the paths of its start
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("isolated_stubs", None)
    isolation.close()
    assert not _children(), "a child is left"


def _stubs():
    import isolated_stubs

    return isolated_stubs


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _children() -> list[str]:
    """Processes of ours that serve isolated calls."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid() and b"media.child" in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while _alive(pid):
        assert time.monotonic() < deadline, "the child outlives its parent"
        time.sleep(0.05)
