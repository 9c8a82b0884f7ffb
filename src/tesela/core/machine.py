"""The machine: cores, memory, locks and folders, and all else in which operating systems differ."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's malloc.h
_USUAL = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65_536}
_KEEPING = {_TRIM_THRESHOLD: (1 << 31) - 1, _MMAP_MAX: 0}

_users = 0
_lock = threading.Lock()


@contextmanager
def steady_memory() -> Iterator[None]:
    """
    Keep freed memory in the process while the block runs, and give it back to the system afterwards.

    By default glibc maps every array of megabytes again and the system clears its pages each time: on a network
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


def usable_cores() -> int:
    """Cores that this process may use, where the system limits them; else all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory of the machine; 8 GiB where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 8 << 30


def has_cpu_flag(flag: str) -> bool:
    """Whether Linux reports a capability of the CPU, such as "amx_bf16"; always False elsewhere."""
    try:
        return flag in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False


def is_root() -> bool:
    """Whether this process runs as the superuser of a POSIX system."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def cache_folder() -> Path:
    """Cache folder of the user, for results that are costly to repeat, such as the hashes of large files."""
    named = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    try:
        return Path(named or Path.home() / ".cache") / "tesela"
    except RuntimeError:  # a user without a home: a path that nothing can be written to
        return Path(os.devnull, "tesela")


def private_folder(name: str) -> Path | None:
    """
    Folder for temporary files that nobody else can write to, the same at each call; None where there is none.

    A folder of that name which belongs to somebody else, or is open to others, is not trusted: then it is a new one,
    removed when the program ends.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir(), f"{name}-{user}")
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            status = folder.lstat()
            own = not hasattr(os, "getuid") or (status.st_uid == user and not status.st_mode & 0o077)
            if not own or not stat.S_ISDIR(status.st_mode):
                folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
    except OSError:
        return None
    return folder


def lock_file(file: IO[str]) -> None:
    """
    Lock an open file until it is closed; the system also releases it when the process is killed.

    Raises
    ------
    OSError
        If another process holds the lock.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_at(file: int, view: memoryview, at: int) -> int:
    """Fill a view with the bytes of an open file from `at` on; returns how many were read. For many threads."""
    if hasattr(os, "preadv"):
        return os.preadv(file, [view], at)
    with _lock:
        os.lseek(file, at, os.SEEK_SET)
        content = os.read(file, len(view))
    view[: len(content)] = content
    return len(content)


def write_at(file: int, view: memoryview, at: int) -> int:
    """Write a view into an open file from `at` on; returns how many bytes were written. For many threads."""
    if hasattr(os, "pwritev"):
        return os.pwritev(file, [view], at)
    with _lock:
        os.lseek(file, at, os.SEEK_SET)
        return os.write(file, view)
