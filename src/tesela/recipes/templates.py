"""Commented recipes to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tesela.core.errors import InputError
from tesela.io.manifest import write_whole
from tesela.recipes.chain_registry import find_chain


def write_template(chain: str, path: Path) -> Path:
    """
    Write the commented recipe of a chain.

    Raises
    ------
    RecipeError
        If there is no such chain.
    InputError
        If the file is there already; nothing is overwritten.
    """
    find_chain(chain)
    if path.exists():
        raise InputError(f"{path}: is there already and is not overwritten. Name another file (-o).")
    text = resources.files("tesela.chains").joinpath(chain, "template.toml").read_text(encoding="utf-8")
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
