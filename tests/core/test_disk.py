import errno
import os

import pytest

from vlm_selfalign.core.disk import atomic, disk_errors, make_folder, write_atomic
from vlm_selfalign.core.errors import TryAgain, UserError

from .faults import failing_at, killed_at


def test_writes_text_and_bytes(tmp_path):
    write_atomic(tmp_path / "a", "é")
    write_atomic(tmp_path / "a", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["a"]


def test_a_stream_of_many_pieces_arrives_whole(tmp_path):
    pieces = [bytes([i % 256]) * (i * 37 % 5000) for i in range(2000)]
    with atomic(tmp_path / "a") as write:
        for piece in pieces:
            write(piece)
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"".join(pieces)


def test_an_exception_of_the_caller_leaves_the_old_file(tmp_path):
    write_atomic(tmp_path / "a", "old")
    with pytest.raises(KeyError), atomic(tmp_path / "a") as write:
        write(b"new")
        raise KeyError
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_failing_call_leaves_old_or_new_and_says_try_again(tmp_path, code):
    path = tmp_path / "a"
    for number in range(1, 10):
        write_atomic(path, "old" * 1000)
        with failing_at(number, code) as made:
            try:
                write_atomic(path, "new" * 1000)
            except TryAgain as error:
                assert str(path) in str(error)
                assert "\n" not in str(error)
            else:
                break
        assert path.read_text() in {"old" * 1000, "new" * 1000}
        assert os.listdir(tmp_path) == ["a"]
        assert number <= len(made)
    assert number == 5  # write, sync, rename, sync of the folder


def test_every_kill_leaves_old_or_new(tmp_path):
    path = tmp_path / "a"
    number = 1
    write_atomic(path, "old" * 1000)
    while killed_at(number, lambda: write_atomic(path, "new" * 1000)):
        assert path.read_text() in {"old" * 1000, "new" * 1000}
        number += 1
    assert path.read_text() == "new" * 1000
    assert number == 5


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (errno.ENOSPC, TryAgain),
        (errno.EDQUOT, TryAgain),
        (errno.EIO, TryAgain),
        (errno.EROFS, UserError),
        (errno.EACCES, UserError),
        (errno.ENOENT, UserError),
        (errno.EDOM, OSError),
    ],
)
def test_what_each_refusal_means(tmp_path, code, raised):
    with pytest.raises(raised), disk_errors(tmp_path / "a"):
        raise OSError(code, os.strerror(code))


def test_a_file_in_the_way_of_a_folder_is_the_users_to_solve(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="out="):
        make_folder(tmp_path / "a" / "b")
