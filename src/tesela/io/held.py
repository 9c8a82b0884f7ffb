"""Held files: temporary files that last as long as some object refers to them."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO

from tesela.core.errors import InputError
from tesela.core.temporary import new_folder, remove_abandoned


class Held:
    """
    A folder for the files behind an answer in memory; it goes with the last object that holds it.

    Scenes, maps and layers that were made from arrays or without an output path carry one in their field `held`. The
    folder lies where the system keeps temporary files (the variable TMPDIR); those of killed programs are removed by
    the next one. A copy sent to another process refers to the files but does not own them.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """

    def __init__(self) -> None:
        target = Path(tempfile.gettempdir()) / "tesela-held"
        try:
            remove_abandoned(target)
            folder, lock = new_folder(target)
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: no temporary files can be made there ({error.strerror or error}). Name "
                f"another folder in the variable TMPDIR, or give an output path."
            ) from None
        self.folder = folder
        self._release = weakref.finalize(self, _remove, folder, lock, os.getpid())

    def __reduce__(self) -> tuple[type[_Elsewhere], tuple[str]]:
        return _Elsewhere, (str(self.folder),)


class _Elsewhere:
    """A folder that another process holds."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)


def _remove(folder: Path, lock: IO[str], process: int) -> None:
    lock.close()
    if os.getpid() == process:  # a forked process inherits the finaliser, not the files
        shutil.rmtree(folder, ignore_errors=True)
