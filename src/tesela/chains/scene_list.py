"""The list of scenes: an entry whose paths are a pattern, a folder or a table of sheets becomes one entry a file."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from tesela.core.errors import TeselaError, join_words
from tesela.io.addresses import is_address
from tesela.io.rows import read_rows
from tesela.io.vector import open_layer, read_layer

IMAGES = (".tif", ".tiff")
"""Endings of the files that a folder of scenes gives."""

_ROWS = (".csv", ".tsv", ".txt", ".xlsx", ".ods")
_LAYERS = (".gpkg", ".geojson", ".shp", ".parquet", ".fgb")
_ARRAYS = (".npz", ".npy", ".mat", ".h5")
_PATTERN = re.compile(r"[*?\[]")

IMAGE_COLUMNS = ("image", "path", "location")
"""Names of the column with the images; `location` is that of gdaltindex."""
_TEXTS = ("name", "use", "date", "reference", "outline", "zone")
_FILES = ("reference", "outline")


def expand_scenes(entries: Sequence[Any], folder: Path | None) -> list[Any]:
    """
    Entries of ``[[scenes]]`` with one for each file.

    Parameters
    ----------
    entries : sequence
        Entries as the recipe holds them. Those whose ``paths`` are a list stay as they are.
    folder : Path, optional
        Folder of the recipe; without it files are not looked for, and an entry stays one.

    Raises
    ------
    ValueError
        If a pattern, folder or table gives no image, or the name of one scene is given for several.

    Examples
    --------
    >>> expand_scenes([{"paths": "a.tif"}], None)
    [{'paths': ['a.tif'], 'name': 'a'}]
    """
    return [part for entry in entries for part in _expanded(entry, folder)]


def _expanded(entry: Any, folder: Path | None) -> list[Any]:
    if not isinstance(entry, Mapping):
        return [entry]
    paths = entry.get("paths")
    for text in (paths,) if isinstance(paths, str) else paths if isinstance(paths, list) else ():
        _check_kind(text, listed=isinstance(paths, list))
    if not isinstance(paths, str):
        return [entry]
    rows = [{"image": paths}] if folder is None else list(_rows(paths, folder))
    if len(rows) > 1 and "name" in entry:
        raise ValueError(
            f"name: '{entry['name']}' names one scene, but {paths} gives {len(rows)}; leave name out, then each "
            f"has that of its file"
        )
    given = [row.get("name") or PurePath(row["image"]).stem for row in rows]
    twice = {name for name, count in Counter(given).items() if count > 1}
    return [_scene(entry, row, name, twice) for row, name in zip(rows, given, strict=True)]


def _scene(entry: Mapping[str, Any], row: Mapping[str, str], name: str, twice: set[str]) -> dict[str, Any]:
    """Entry of one file; the row of a table has precedence."""
    if name in twice and not row.get("name"):
        name = f"{PurePath(row['image']).parent.name}_{name}"
    scene = {**entry, "paths": [row["image"]]}
    scene.setdefault("name", name)
    scene |= {key: row[key] for key in ("use", "date", *_FILES) if row.get(key)}
    for key in _FILES:
        if isinstance(scene.get(key), str):
            scene[key] = scene[key].replace("{name}", scene["name"])
    if row.get("zone"):
        scene["zone"] = _zone(row["zone"])
    return scene


def _check_kind(text: Any, *, listed: bool) -> None:
    """Refuse arrays without coordinates, and patterns among the files of one scene."""
    if not isinstance(text, str) or is_address(text):
        return
    if PurePath(text).suffix.lower() in _ARRAYS:
        raise ValueError(
            f"{text} is an array without coordinates; a scene is a GeoTIFF. Write its bands into one "
            f"(rasterio, gdal_translate -a_srs -a_ullr), its classes into another, which reference names"
        )
    if listed and _PATTERN.search(text):
        raise ValueError(f'a list holds the files of one scene; for one scene a file write paths = "{text}"')


def _rows(text: str, folder: Path) -> Iterator[dict[str, str]]:
    """Rows of a table, or the files of a folder or pattern, relative to the recipe."""
    ending = PurePath(text).suffix.lower()
    if _PATTERN.search(text) and not is_address(text):
        files = [Path(name) for name in glob.glob(str(folder / text), recursive=True)]  # noqa: PTH207
        yield from _images(files, text, folder)
    elif not is_address(text) and (folder / text).is_dir():
        files = [file for file in (folder / text).iterdir() if file.suffix.lower() in IMAGES]
        yield from _images(files, f"folder {text}", folder)
    elif ending in (*_ROWS, *_LAYERS):
        yield from _table_rows(text, folder)
    else:
        yield {"image": text}


def _images(files: Sequence[Path], what: str, folder: Path) -> Iterator[dict[str, str]]:
    if not files:
        raise ValueError(f"no file {what}")
    for file in sorted(files):
        if file.suffix.lower() in _ARRAYS:
            _check_kind(file.name, listed=False)
        yield {"image": _relative(file, folder)}


def _table_rows(text: str, folder: Path) -> Iterator[dict[str, str]]:
    """Rows of a table of sheets; its paths are relative to it."""
    file = folder / text
    try:
        if file.suffix.lower() in _LAYERS:
            frame = read_layer(open_layer(file))
            columns = {str(name).casefold(): name for name in frame.columns if name != frame.geometry.name}
            rows = [
                {
                    key: "" if record[name] is None or record[name] != record[name] else str(record[name])
                    for key, name in columns.items()
                }
                for record in frame.to_dict("records")
            ]
            rows = [{"outline": file.name, **row} for row in rows]
        else:
            rows = read_rows(file, kind="table of sheets")
    except TeselaError as error:
        raise ValueError(f"{str(error).rstrip('.')}") from None
    image = next((name for name in IMAGE_COLUMNS if rows and name in rows[0]), None)
    if image is None:
        names = join_words(rows[0]) if rows else "no row"
        raise ValueError(
            f"{text} has no column with the images, named image, path or location (it has {names})"
        )
    for number, row in enumerate(rows, start=1):
        if not row[image]:
            raise ValueError(f"row {number} of {text} names no image")
        kept = {key: row.get(key, "") for key in _TEXTS}
        kept["image"] = row[image]
        for key in ("image", *_FILES):
            if kept[key] and not is_address(kept[key]):
                kept[key] = _relative(file.parent / kept[key], folder)
        yield kept


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file, folder)).as_posix()


def _zone(text: str) -> int | str:
    """Number of a UTM zone in "30", "30N" or "HU30"."""
    digits = re.search(r"\d+", text)
    return int(digits[0]) if digits else text
