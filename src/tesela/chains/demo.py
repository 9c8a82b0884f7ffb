"""Demos: the recipe of a chain and its virtual data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from tesela import __version__
from tesela.core.errors import RecipeError, unknown_name
from tesela.io.fingerprints import fingerprint
from tesela.io.manifest import Manifest
from tesela.recipes.chain_registry import find_chain

SIZES = ("small", "full")
"""A demo is small (minutes on two cores) or full (hours); each chain has its own sizes."""


def write_demo(
    chain: str,
    out: Path,
    *,
    size: str = "small",
    seed: int = 0,
    report: Callable[[str, str], None] = lambda stage, text: None,
) -> Path:
    """
    Make the virtual data and the recipe of a chain's demo in a folder; data that exist are kept.

    Returns
    -------
    Path
        The recipe.

    Raises
    ------
    RecipeError
        If there is no such chain or size.
    """
    parts = find_chain(chain)
    if size not in SIZES:
        raise RecipeError(unknown_name("size", size, SIZES))
    recipe: Path = parts.load("demo")(out, size=size, seed=seed, report=report)
    return recipe


def keep_simulated(
    folder: Path,
    settings: Mapping[str, object],
    make: Callable[[], Iterable[Path]],
    *,
    seed: int,
    report: Callable[[str, str], None],
) -> None:
    """
    Make virtual data in a folder, unless those of the same settings exist.

    Parameters
    ----------
    make : callable
        Writes them and returns the files.
    """
    wanted = Manifest("simulate", settings={**settings, "tesela": __version__}, seed=seed)
    former = Manifest.read(folder)
    if (
        former is not None
        and former.same_work(wanted)
        and all((folder / path).exists() for path in former.outputs)
    ):
        report("simulate", "up to date")
        return
    report("simulate", "")
    started = time.perf_counter()
    files = make()
    seconds = time.perf_counter() - started
    outputs = {os.path.relpath(path, folder): fingerprint(path) for path in files}
    replace(wanted, outputs=outputs, seconds=round(seconds, 3)).write(folder)
    report("simulate", f"{seconds:.1f} s")
