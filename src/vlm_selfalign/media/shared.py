"""Objects from one process to another over a Unix socket; large arrays stay where they are, in shared memory.

The memory is a file without a name: it is gone with the last process that holds it, however that process ends, so
there is nothing to clean up and nothing to leak. ::

    frames = empty((64, 1080, 1920, 3))   # in a child of ``isolation``: pages that the parent will see
    send(channel, frames)                 # 100 bytes and a descriptor

Messages are pickles: only for processes that trust each other.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import socket
import struct
import tempfile
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vlm_selfalign.core.disk import write_all

SMALL = 1 << 16
"""Arrays under this many bytes go through the socket."""

MOST = 200
"""Descriptors in one message; the kernel takes 253. Further arrays go through the socket."""

_HEADER = struct.Struct("!QH")
_sharing = False
_blocks: dict[int, int] = {}
"""Where a shared array of this process starts in memory, and its descriptor."""


def share_from_now_on() -> None:
    """From now on ``empty`` makes arrays that ``send`` need not copy."""
    global _sharing
    _sharing = True


def empty(shape: Sequence[int], dtype: Any = np.uint8) -> np.ndarray:
    """``np.empty``; in a child of ``isolation`` one whose content reaches the parent without a copy."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if not _sharing or size < SMALL:
        return np.empty(shape, dtype)
    handle = _nameless(size)
    buffer = mapped(handle, size)
    _blocks[ctypes.addressof(buffer)] = handle
    weakref.finalize(buffer, _forget, ctypes.addressof(buffer))
    return np.frombuffer(buffer, dtype).reshape(shape)  # type: ignore[call-overload]


def mapped(handle: int, size: int) -> ctypes.Array[ctypes.c_char]:
    """The bytes behind a descriptor, in memory until the last array over them is gone.

    By libc, since Python's ``mmap`` would keep a second descriptor for as long: a thousand clips, a thousand files.
    """
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, handle, 0)
    if address == ctypes.c_void_p(-1).value:
        raise MemoryError(os.strerror(ctypes.get_errno()))
    buffer = (ctypes.c_char * size).from_address(address)
    weakref.finalize(buffer, _libc.munmap, address, size).atexit = False
    return buffer


def send(channel: socket.socket, content: Any) -> None:
    """Send an object. Raises ``OSError`` when the other side is gone, and what ``pickle`` raises before any byte."""
    handles: list[int] = []
    sizes: list[int] = []

    def inline(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < SMALL or len(handles) == MOST:
            return True
        handles.append(_behind(raw))
        sizes.append(raw.nbytes)
        return False

    try:
        body = pickle.dumps(content, protocol=5, buffer_callback=inline)
        message = pickle.dumps((sizes, body))
        header = _HEADER.pack(len(message), len(handles))
        socket.send_fds(channel, [header], handles) if handles else channel.sendall(header)
        channel.sendall(message)
    finally:
        for handle in handles:
            os.close(handle)


def receive(channel: socket.socket, wait: Callable[[], None] = lambda: None) -> Any:
    """The next object; ``wait`` is called before every read and may raise. Raises ``EOFError`` at the end."""
    wait()
    # Not inheritable: a process that another thread starts at this moment must not keep the memory.
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    head, handles, _, _ = socket.recv_fds(channel, _HEADER.size, MOST, flags)
    try:
        size, count = _HEADER.unpack(head + _read(channel, _HEADER.size - len(head), wait))
        sizes, body = pickle.loads(_read(channel, size, wait))
        if count != len(handles):
            raise OSError("descriptors were lost on the way: too many files are open")
        return pickle.loads(body, buffers=[mapped(h, n) for h, n in zip(handles, sizes, strict=True)])
    finally:
        for handle in handles:
            os.close(handle)


def _read(channel: socket.socket, size: int, wait: Callable[[], None]) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        wait()
        count = channel.recv_into(rest)
        if not count:
            raise EOFError("the other side is gone")
        rest = rest[count:]
    return data


def _behind(raw: memoryview) -> int:
    """A new descriptor of the memory behind a buffer; copied there first, unless ``empty`` made it."""
    known = _blocks.get(np.frombuffer(raw, np.uint8).ctypes.data)
    if known is not None and os.fstat(known).st_size >= raw.nbytes:
        return os.dup(known)
    handle = _nameless(raw.nbytes)
    # Written, not mapped and filled: the copy then counts in no process's memory but the reader's.
    write_all(handle, raw, 0)  # type: ignore[arg-type]
    return handle


def _nameless(size: int) -> int:
    """A new file of ``size`` bytes that has no name, in memory where the system can."""
    in_memory = hasattr(os, "memfd_create")
    if in_memory:
        handle = os.memfd_create("frames", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    try:
        os.ftruncate(handle, size)
        if in_memory:
            os.posix_fallocate(handle, 0, size)  # faster than page by page, and no bus error when memory runs out
    except OSError as error:
        os.close(handle)
        raise MemoryError(error.strerror) from error
    return handle


def _forget(address: int) -> None:
    os.close(_blocks.pop(address))


def _memory_calls() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


_libc = _memory_calls() if os.name == "posix" else None
