"""TOML files as people save them: in UTF-8 with or without a mark at their beginning, in UTF-16, in Windows-1252."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from tesela.core.errors import RecipeError
from tesela.io.rows import read_text

_PATHS = re.compile(r"Unescaped|[Hh]ex")
"""What tomllib says of a path of Windows in double quotes."""


def read_toml(path: str | Path) -> dict[str, Any]:
    """
    Read a TOML file.

    Raises
    ------
    RecipeError
        If it is not TOML; names the line.
    OSError
        If it cannot be read.
    """
    try:
        return tomllib.loads(read_text(path))
    except ValueError as error:  # tomllib.TOMLDecodeError is one, too
        hint = " Write paths with /, or in single quotes." if _PATHS.search(str(error)) else ""
        raise RecipeError(f"{path}: not a TOML file ({error}).{hint}") from None
