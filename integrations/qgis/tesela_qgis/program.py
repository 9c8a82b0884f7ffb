"""The program: where the installed `tesela` is, and one run of it, with its progress, its notes and its error."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_OF_QGIS = ("PYTHON", "GDAL_", "OGR_", "PROJ_", "QT_", "GISBASE", "GRASS_")
"""Beginnings of the variables that QGIS sets for its own libraries; Tesela has others."""

_WAIT_S = 20.0
"""Time to end after a cancellation; then the program is killed."""

_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""No console window on Windows."""


class ProgramError(Exception):
    """One line for a person: what went wrong, and what to do."""


class Cancelled(ProgramError):
    """The user has cancelled the run."""


def find_program(setting: str = "") -> list[str]:
    """
    Words that start the program.

    Parameters
    ----------
    setting : str
        The program, a Python interpreter or the folder of an environment; empty: `tesela` on the search path, or in
        the active environment.

    Raises
    ------
    ProgramError
        If it is not there.
    """
    if setting.strip():
        found = _at(Path(setting.strip()).expanduser())
        if found is None:
            raise ProgramError(
                f"{setting}: there is no Tesela. Name the program tesela, a Python interpreter or the folder of its "
                "environment in Settings > Options > Processing > Providers > Tesela."
            )
        return found
    on_path = shutil.which("tesela")
    if on_path:
        return [on_path]
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        found = _at(Path(os.environ[variable])) if os.environ.get(variable) else None
        if found is not None:
            return found
    raise ProgramError(
        "Tesela was not found on the search path. Install it in an environment, and name the folder of that "
        "environment in Settings > Options > Processing > Providers > Tesela."
    )


def _at(path: Path) -> list[str] | None:
    """Words for a program, an interpreter or the folder of an environment."""
    if path.is_file():
        return [str(path), "-m", "tesela"] if path.name.lower().startswith("python") else [str(path)]
    for scripts in ("bin", "Scripts"):
        for name in ("tesela", "tesela.exe"):
            if (path / scripts / name).is_file():
                return [str(path / scripts / name)]
    for python in ("bin/python", "Scripts/python.exe", "python.exe"):
        if (path / python).is_file():
            return [str(path / python), "-m", "tesela"]
    return None


def own_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """
    Variables for the program: those of QGIS without what QGIS sets for its own Python, GDAL and PROJ.

    Progress is asked for as lines of JSON.
    """
    kept = {name: value for name, value in variables.items() if not name.upper().startswith(_OF_QGIS)}
    return {**kept, "TESELA_PROGRESS": "json", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


class Listener:
    """What happens with the lines of a run; each method may be replaced."""

    def progress(self, work: str, done: int, total: int, text: str) -> None:
        """Some work has come so far; a total of 0 is unknown."""

    def stage(self, name: str, text: str) -> None:
        """A stage of a recipe begins (no text) or ends."""

    def note(self, text: str) -> None:
        """A note that the user should read."""

    def line(self, text: str) -> None:
        """A line of the result."""


def run_program(words: Sequence[str], *, listener: Listener, cancelled: Callable[[], bool]) -> str:
    """
    Run the program to its end.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments.
    listener : Listener
        Gets each line as it comes, in this thread.
    cancelled : callable
        Asked ten times a second; True ends the program as Ctrl+C does: nothing half-written stays behind, and the
        same command continues later.

    Returns
    -------
    str
        What it has printed.

    Raises
    ------
    Cancelled
        If `cancelled` was True.
    ProgramError
        With the program's own line, if it fails.
    """
    try:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=own_environment(os.environ),
            creationflags=_NO_WINDOW,
        )
    except OSError as error:
        raise ProgramError(f"{words[0]}: cannot be started ({error.strerror}).") from None
    with process:
        try:
            printed, last, stopped = _follow(process, listener, cancelled)
        except BaseException:
            process.kill()
            raise
    if stopped:
        raise Cancelled("Cancelled. Run the same again to continue.")
    if process.returncode:
        raise ProgramError(last or f"{words[0]} ended with status {process.returncode} and said nothing.")
    return "\n".join(printed)


def _follow(
    process: subprocess.Popen, listener: Listener, cancelled: Callable[[], bool]
) -> tuple[list[str], str, bool]:
    """What a process prints, the last line that may be its error, and whether it was cancelled."""
    lines: queue.Queue[tuple[str, str]] = queue.Queue()
    readers = [
        threading.Thread(target=_read, args=(stream, kind, lines), daemon=True)
        for stream, kind in ((process.stdout, "out"), (process.stderr, "err"))
    ]
    for reader in readers:
        reader.start()
    printed: list[str] = []
    last = ""
    stopped_at = None
    while True:
        if stopped_at is None and cancelled():
            stopped_at = time.monotonic()
            process.terminate()
        elif stopped_at is not None and time.monotonic() - stopped_at > _WAIT_S:
            process.kill()
        try:
            kind, text = lines.get(timeout=0.1)
        except queue.Empty:
            if process.poll() is not None and not any(reader.is_alive() for reader in readers):
                return printed, last, stopped_at is not None
            continue
        if kind == "out":
            printed.append(text)
            listener.line(text)
        else:
            last = _hear(text, listener) or last


def _read(stream, kind: str, lines: queue.Queue) -> None:
    """Hand on the lines of a stream until it ends."""
    for line in stream:
        if line.strip():
            lines.put((kind, line.rstrip()))


def _hear(text: str, listener: Listener) -> str:
    """Pass on a line of standard error; returns what may be the error."""
    if text.startswith("{"):
        try:
            event = json.loads(text)
        except ValueError:
            event = {}
        if "work" in event:
            listener.progress(str(event["work"]), int(event["done"]), int(event["total"]), str(event["text"]))
            return ""
        if "stage" in event:
            listener.stage(str(event["stage"]), str(event["text"]))
            return ""
    if text.startswith("tesela: "):
        return text[len("tesela: ") :]
    if text.startswith("Error: "):
        return text[len("Error: ") :]
    listener.note(text[len("note: ") :] if text.startswith("note: ") else text)
    return text
