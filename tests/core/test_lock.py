import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.lock import RunLock, holder_of

HOLDER = """
import sys, time
from vlm_selfalign.core.lock import RunLock
lock = RunLock(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_with_the_holders_name(tmp_path, other):
    assert f"process {other.pid} on " in (holder_of(tmp_path / "lock") or "")
    with pytest.raises(UserError, match=rf"in use by process {other.pid} on .*, since \d{{4}}-.*out=") as error:
        RunLock(tmp_path / "lock")
    assert "\n" not in str(error.value)


def test_a_killed_holders_lock_is_taken_over_and_said_so(tmp_path, other, caplog):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert holder_of(tmp_path / "lock") is None
    with RunLock(tmp_path / "lock"):
        assert f"taking over from process {other.pid}" in caplog.text
        assert "this process" in (holder_of(tmp_path / "lock") or "")


def test_a_copy_of_a_running_folder_is_free(tmp_path, other):
    shutil.copy(tmp_path / "lock", tmp_path / "copy")
    with RunLock(tmp_path / "copy"), pytest.raises(UserError):
        RunLock(tmp_path / "lock")


def test_a_stale_lock_of_another_host_is_taken_over_and_said_so(tmp_path, caplog):
    (tmp_path / "lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "yesterday"}))
    with RunLock(tmp_path / "lock"):
        assert "process 1 on elsewhere, since yesterday" in caplog.text


def test_released_it_is_free_and_nameless(tmp_path, caplog):
    path = tmp_path / "lock"
    assert holder_of(path) is None
    lock = RunLock(path)
    with pytest.raises(UserError, match="in use by this process"):
        RunLock(path)
    lock.release()
    lock.release()
    assert path.read_text() == ""
    with RunLock(path):
        pass
    assert not caplog.text


def test_a_forked_child_does_not_keep_it(tmp_path):
    lock = RunLock(tmp_path / "lock")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    lock.release()
    RunLock(tmp_path / "lock").release()
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)


def test_whoever_asks_does_not_get_in_the_way(tmp_path):
    path = tmp_path / "lock"
    path.write_text("")
    asking = os.open(path, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    child = os.fork()
    if child == 0:
        os.close(asking)
        try:
            RunLock(path)
        except UserError:
            os._exit(1)
        os._exit(0)
    fcntl.flock(asking, fcntl.LOCK_UN)
    os.close(asking)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, code):
    def no_locks(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UserError, match="local disk"):
        RunLock(tmp_path / "lock")
