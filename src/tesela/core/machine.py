"""The machine: how memory is taken and given back while large arrays come and go."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's malloc.h
_USUAL = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65_536}
_KEEPING = {_TRIM_THRESHOLD: (1 << 31) - 1, _MMAP_MAX: 0}

_users = 0
_lock = threading.Lock()


@contextmanager
def steady_memory() -> Iterator[None]:
    """
    Keep freed memory in the process while the block runs, and give it back to the system afterwards.

    By default glibc maps every array of megabytes anew and the system clears its pages each time: on a network
    whose windows are 1024 px this costs torch 19 to 30 % of its speed. Does nothing where there is no glibc.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set(_KEEPING)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _set(_USUAL)


def _set(options: dict[int, int]) -> None:
    try:
        system = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    for name, value in options.items():
        system.mallopt(name, value)
    if options is _USUAL:
        system.malloc_trim(0)
