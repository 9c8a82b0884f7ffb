"""Demos: a chain's recipe and the virtual data that it runs on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tesela import __version__
from tesela.core.errors import RecipeError, unknown_name
from tesela.io.manifest import Manifest, fingerprint
from tesela.recipes.known import find_chain
from tesela.simulate import write_region

SIZES = ("small", "full")
"""A demo is small (minutes on two cores) or full (hours); each chain says what that means."""


def write_demo(
    chain: str,
    out: Path,
    *,
    size: str = "small",
    seed: int = 0,
    report: Callable[[str, str], None] = lambda stage, text: None,
) -> Path:
    """
    Make the virtual data and the recipe of a chain's demo in a folder; data that are there already are kept.

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


def make_region(
    folder: Path, *, size_px: int, seed: int, min_area_ha: float, report: Callable[[str, str], None]
) -> None:
    """Make the virtual region; one that is there already, of the same settings, is kept."""
    settings = {"size_px": size_px, "min_area_ha": min_area_ha, "tesela": __version__}
    wanted = Manifest("simulate", settings=settings, seed=seed)
    found = Manifest.read(folder)
    if found is not None and found.same_work(wanted) and all(Path(path).exists() for path in found.outputs):
        report("simulate", "up to date")
        return
    report("simulate", "")
    started = time.perf_counter()
    region = write_region(folder, size_px=size_px, seed=seed, min_area_ha=min_area_ha, clouds="none")
    files = [*region.scenes, *region.scl, region.truth, region.altitude, region.reference, region.mistakes]
    seconds = time.perf_counter() - started
    outputs = {str(path): fingerprint(path) for path in files}
    Manifest(
        "simulate", settings=wanted.settings, outputs=outputs, seed=seed, seconds=round(seconds, 3)
    ).write(folder)
    report("simulate", f"{seconds:.1f} s")
