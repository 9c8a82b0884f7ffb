"""Names and paths that strangers write: safe as names of files, and inside the folder that they belong to."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from tesela.core.errors import InputError

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Characters that some operating system does not allow in a name, or takes for a separator."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""

_LONGEST = 120
"""Bytes of UTF-8; endings are added, and file systems stop at 255."""


def check_file_name(name: str, *, what: str) -> str:
    """
    The name, if it can be that of a file on every system, in the folder that the program chooses.

    Parameters
    ----------
    what : str
        For the message: "The name of a scene".

    Raises
    ------
    InputError
        If it is empty, leads to another folder, or has characters that file names do not have.

    Examples
    --------
    >>> check_file_name("Alpujarra 2018-04", what="The name of a scene")
    'Alpujarra 2018-04'
    >>> check_file_name("../x", what="The name of a scene")
    Traceback (most recent call last):
    tesela.core.errors.InputError: The name of a scene is '../x', which cannot be the name of a file: ...
    """
    reason = _why_unsafe(name)
    if reason:
        raise InputError(
            f"{what} is {_short(name)!r}, which cannot be the name of a file: {reason}. Write letters, digits, "
            f"spaces, '.', '_' and '-'."
        )
    return name


def inside(folder: Path, path: str, *, what: str) -> Path:
    """
    A path that a file names, relative to that file's folder and inside it.

    Links of the file system are followed where they lie: a link in the folder was put there by its owner.

    Parameters
    ----------
    folder : Path
        Folder of the file that names the path.
    what : str
        For the message: "cascade.toml: the path of an expert".

    Raises
    ------
    InputError
        If the path is absolute, an address, or leads out of the folder.

    Examples
    --------
    >>> inside(Path("cascade"), "experts/a.safetensors", what="The path").as_posix()
    'cascade/experts/a.safetensors'
    """
    steps = PurePosixPath(path.replace("\\", "/")).parts
    absolute = path.startswith(("/", "\\", "~")) or PureWindowsPath(path).drive or "://" in path
    if not path or "\0" in path or absolute or ".." in steps:
        raise InputError(
            f"{what} is {_short(path)!r}, which leads out of its folder {folder}. Put the file into that folder and "
            f"write its path relative to it."
        )
    return folder / path


def _why_unsafe(name: str) -> str:
    if not name.strip():
        return "it is empty"
    if found := _FORBIDDEN.search(name):
        return f"it holds {found[0]!r}"
    if name != name.strip() or name.startswith((".", "~", "-")) or name.endswith("."):
        return "it begins or ends with a space or a dot, or begins with '-' or '~'"
    if _DEVICES.fullmatch(name):
        return "Windows keeps it for a device"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        return f"it is longer than {_LONGEST} bytes"
    return "" if name.isprintable() else "it holds characters that cannot be printed"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
