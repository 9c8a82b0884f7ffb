"""Temporary folders beside an output: removed with the run, or by the next run where it was killed."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tesela.core.machine import lock_file

HELD = ".tesela-held"
"""File in a temporary folder that its program keeps locked."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, getattr(errno, "EOPNOTSUPP", errno.ENOSYS)}


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """
    Folder ``.NAME.xxxxxxxx`` beside an output, for its parts; removed with the block.

    Folders of the same output that a killed run left behind are removed first. A running program holds a lock in its
    own, so that two runs at once leave each other alone.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target)
    folder, held = new_folder(target)
    try:
        with held:
            try:
                yield folder
            finally:
                with suppress(OSError):
                    _clear(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(target: Path) -> None:
    """Remove temporary folders of an output that no program holds any more."""
    with suppress(OSError):
        for folder in target.parent.glob(f".{_escaped(target.name)}.????????"):
            if not folder.is_symlink() and folder.is_dir():
                _remove_unheld(folder)


def new_folder(target: Path) -> tuple[Path, IO[str]]:
    """
    A new folder and its locked file, for `temporary_folder` and for what lasts longer than a block.

    Another program may remove the folder until its file is locked; then another one is made.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            held = (folder / HELD).open("w")
        except FileNotFoundError:
            continue
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            lock_file(held)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                held.close()
                continue
        if (folder / HELD).exists():
            return folder, held
        held.close()


def _remove_unheld(folder: Path) -> None:
    """Remove a temporary folder, unless a program holds it or it is none of ours."""
    try:
        with (folder / HELD).open("r+") as file:
            lock_file(file)
            _clear(folder)
            with suppress(OSError):  # Windows keeps open files
                (folder / HELD).unlink()
    except FileNotFoundError:  # killed before it made the file: empty, or of somebody else
        with suppress(OSError):
            folder.rmdir()
        return
    except OSError:
        return
    shutil.rmtree(folder, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Remove all but the locked file: killed meanwhile, the folder is still known for one of ours."""
    for path in folder.iterdir():
        if path.name != HELD:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
