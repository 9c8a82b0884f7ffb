"""Outputs of a step: each is a file of its own, and none is an input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tesela.core.errors import RecipeError


def check_outputs(outputs: Iterable[str | Path | None], *, inputs: Iterable[str | Path]) -> None:
    """
    Check that no output would take the place of an input, or of another output.

    Parameters
    ----------
    outputs : paths
        None for those that were not asked for.
    inputs : paths
        Files and folders; addresses of the web do not matter.

    Raises
    ------
    RecipeError
        Names the path that stands twice, or is a folder.

    Examples
    --------
    >>> check_outputs(["map.tif", None, "confidence.tif"], inputs=["scene.tif"])
    """
    taken = {Path(path).resolve() for path in inputs}
    written: set[Path] = set()
    for path in outputs:
        if path is None:
            continue
        place = Path(path).resolve()
        if place in taken:
            raise RecipeError(f"{path} is read, and would be replaced. Give the output another name.")
        if place in written:
            raise RecipeError(f"{path} is named for two outputs. Give each its own name.")
        if place.is_dir() and not (place / "zarr.json").exists() and any(place.iterdir()):
            raise RecipeError(f"{path} is a folder of other things; name an output in it.")
        written.add(place)
