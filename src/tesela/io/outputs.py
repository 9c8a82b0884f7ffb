"""Outputs: no output replaces what a command reads, another output, or what is not a file."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tesela.core.errors import InputError, RecipeError
from tesela.core.temporary import temporary_folder
from tesela.io.fingerprints import read_along

__all__ = [
    "check_file_outputs",
    "check_outputs",
    "check_raster_names",
    "check_target",
    "protected",
    "temporary_folder",
]

_OTHERS = re.compile(
    r"\.(bmp|csv|fgb|geojson|gif|gml|gpkg|html|img|jp2|jpe?g|json|kml|nc|parquet|pdf|png|shp|txt|vrt|xlsx|zarr|zip)",
    re.IGNORECASE,
)
"""Suffixes of formats that Tesela's rasters do not have."""

_READ: Counter[Path] = Counter()
"""Files that the running command reads, see `protected`; by their real paths."""

_LOCK = threading.Lock()


def check_outputs(outputs: Iterable[str | Path | None], *, inputs: Iterable[str | Path]) -> None:
    """
    Check that no output would replace an input, a file that is read with one, another output, or a device.

    Parameters
    ----------
    outputs : paths
        None for those that are not wanted.
    inputs : paths
        Files and folders, with the files that are read along with them (parts of a shapefile, sources of a VRT);
        addresses of the web do not matter.

    Raises
    ------
    RecipeError
        Names the path that occurs twice, or is no file that can be written.

    Examples
    --------
    >>> check_outputs(["map.tif", None, "confidence.tif"], inputs=["scene.tif"])
    """
    from tesela.io.vector.address import local_file  # io.vector imports this module

    read = [local_file(path) for path in inputs]
    taken = {part.resolve() for path in read for part in (path, *read_along(path))}
    cubes = [path.resolve() for path in read if (path / "zarr.json").exists()]
    written: set[Path] = set()
    for path in outputs:
        if path is None:
            continue
        target = Path(path).resolve()
        if target in taken or any(_is_same(target, part) for part in taken):
            raise RecipeError(f"{path} is read, and would be replaced. Give the output another name.")
        if target in written or any(_is_same(target, part) for part in written):
            raise RecipeError(f"{path} is named for two outputs. Give each its own name.")
        if any(cube in target.parents for cube in cubes):
            raise RecipeError(f"{path} lies in a cube that is read. Give the output another folder.")
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise RecipeError(f"{path} is a device or a pipe, not a file; it would be replaced. Name a file.")
        written.add(target)


def check_file_outputs(outputs: Iterable[str | Path | None], *, inputs: Iterable[str | Path]) -> None:
    """
    `check_outputs` for outputs that are files, or cubes: none may be a folder with other files.

    Raises
    ------
    RecipeError
        As `check_outputs`, or if one is such a folder.
    """
    named = [path for path in outputs if path is not None]
    check_outputs(named, inputs=inputs)
    for path in map(Path, named):
        if path.is_dir() and not (path / "zarr.json").exists() and any(path.iterdir()):
            raise RecipeError(f"{path} is a folder with other files; name an output in it.")


def check_raster_names(outputs: Iterable[str | Path | None]) -> None:
    """
    Check that no raster gets the name of another format: a GeoTIFF named ``map.png`` is opened as what it is not.

    Raises
    ------
    InputError
        Names the path.
    """
    for path in outputs:
        if path is not None and _OTHERS.fullmatch(Path(path).suffix):
            name = Path(path).with_suffix(".tif")
            raise InputError(f"{path}: rasters are written as GeoTIFF; end the name in .tif, such as {name}.")


@contextmanager
def protected(inputs: Iterable[str | Path]) -> Iterator[None]:
    """
    Refuse to replace these files while the block runs, whichever name an output comes to.

    `check_outputs` sees the outputs that a caller names; this sees those that a command makes itself, such as the
    images in a folder, or the style beside a map.
    """
    files = [
        part.resolve() for path in inputs for part in (Path(path), *read_along(Path(path))) if part.is_file()
    ]
    with _LOCK:
        _READ.update(files)
    try:
        yield
    finally:
        with _LOCK:
            _READ.subtract(files)


def check_target(target: Path) -> None:
    """
    Check a path just before it is written.

    Raises
    ------
    InputError
        If the running command reads it, see `protected`, or it is a device.
    """
    with _LOCK:
        read = _READ[target.resolve()] > 0 if _READ else False
    if read:
        raise InputError(
            f"{target} is read by this command, and would be replaced. Give the output another name."
        )
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise InputError(f"{target} is a device or a pipe, not a file; it would be replaced. Name a file.")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths are one existing file, also by names that differ in case."""
    try:
        return one.name.casefold() == other.name.casefold() and one.samefile(other)
    except OSError:
        return False
