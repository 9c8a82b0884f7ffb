"""Andalusia-MSMTU as published: JSON series, CSV shares and ancillary variables of pixels on a lon/lat grid."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.legend import Legend
from tesela.io.abundance import AbundanceMap, AbundanceWriter
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter
from tesela.io.legends import load_legend
from tesela.io.manifest import write_whole

STEP_DEG = 463.3127165694 / 111_319.490793
"""Spacing of the pixels, in degrees of longitude and latitude alike."""

BANDS = tuple(f"sur_refl_b{number:02d}" for number in range(1, 8))
TIMES = tuple(f"{month:02d}" for month in range(1, 13))
PARTITIONS = ("train", "validation", "test")

CLASS_CODES: Mapping[int, Mapping[str, str]] = {
    1: {"1": "artificial", "2": "agricultural-lands", "4": "terrestrial-lands", "5": "wetlands"},
    2: {
        "1": "artificial",
        "21": "annual-croplands",
        "22": "greenhouses",
        "23": "woody-croplands",
        "31": "combinations-of-croplands-and-vegetation",
        "35": "grasslands",
        "41": "shrublands",
        "42": "forest",
        "47": "barelands",
        "51": "wetlands",
    },
}
"""Published class codes by level, and our codes of legend "sipna"."""

_SCALE = 10_000.0
_OFF_GRID = 0.25
"""How far from a cell's centre a pixel may lie, in cells."""


@dataclass(frozen=True, eq=False)
class PublishedPixels:
    """Pixels of Andalusia-MSMTU, by rising number."""

    ids: NDArray[np.int64]
    """(pixels,) square_id."""
    values: NDArray[np.float32]
    """(pixels, 12, 7) reflectance, NaN for gaps."""
    layers: tuple[str, ...]
    static: NDArray[np.float32]
    """(pixels, layers), NaN where a variable is not given."""
    shares: Mapping[int, NDArray[np.float32]]
    """(pixels, classes of "sipna" at that level) by level, NaN where a pixel has none."""
    splits: Mapping[int, NDArray[np.uint8]]
    """(pixels,) published partition by level: 0 train, 1 validation, 2 test, 255 none."""

    def __len__(self) -> int:
        return len(self.ids)


def read_msmtu(folder: str | Path) -> PublishedPixels:
    """
    Read the published folder, wherever its files lie inside.

    Series are JSON files, one a pixel, in either published layout: `ts_data.forward` with values and masks, or both
    in `ts_data`, beside `ancillary_data`. A mask of 0 is a gap, whatever the value says. Shares are
    ``train.csv``, ``validation.csv`` and ``test.csv`` below ``level_1`` and ``level_2``; classes are found by the
    published codes or our names, not by their place. Any other CSV with `square_id`, `longitude` and `latitude` holds
    ancillary variables, which are found by name.

    Raises
    ------
    InputError
        If there are no series, or a file is not as described.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder}: no such folder. Give the folder of the unpacked data set.")
    series: dict[int, NDArray[np.float32]] = {}
    named: dict[int, dict[str, float]] = {}
    for file in sorted(root.rglob("*.json")):
        number, values, ancillary = _read_series(file)
        series[number] = values
        named[number] = ancillary
    if not series:
        raise InputError(f"{folder}: holds no JSON series. Give the folder of the unpacked data set.")
    tables = {file: _read_csv(file) for file in sorted(root.rglob("*.csv"))}
    ids = np.array(sorted(series), np.int64)
    place = {int(number): k for k, number in enumerate(ids)}
    shares, splits = {}, {}
    for level, codes in CLASS_CODES.items():
        found = {file: rows for file, rows in tables.items() if f"level_{level}" in file.as_posix()}
        if found:
            shares[level], splits[level] = _shares(found, place, load_legend(f"sipna-{level}"), codes)
    for file, rows in tables.items():
        if (
            "level_" not in file.as_posix()
            and rows
            and {"square_id", "longitude", "latitude"} <= set(rows[0])
        ):
            for row in rows:
                number = int(float(row["square_id"]))
                if number in place:
                    named[number] |= {
                        key: _number(file, row[key]) for key in row if key not in ("square_id", "")
                    }
    layers = tuple(dict.fromkeys(name for item in named.values() for name in item))
    static = np.array(
        [[named[int(number)].get(name, np.nan) for name in layers] for number in ids], np.float32
    )
    return PublishedPixels(
        ids,
        np.stack([series[int(number)] for number in ids]),
        layers,
        static.reshape(len(ids), -1),
        shares,
        splits,
    )


def write_msmtu_cube(pixels: PublishedPixels, out: str | Path) -> Cube:
    """
    Put the pixels back on their grid, as a cube of reflectances and layers.

    Raises
    ------
    GridError
        If longitude and latitude are lacking, or do not lie on one regular grid.
    """
    grid, rows, cols = rebuild_grid(pixels)
    shape = tuple(int(side) for side in grid.shape)
    with CubeWriter(
        out,
        grid,
        times=TIMES,
        bands=BANDS,
        layers=pixels.layers,
        units="reflectance",
        notes={"source": "Andalusia-MSMTU"},
    ) as writer:
        step = writer.chunk_px
        for row in range(0, shape[0], step):
            for col in range(0, shape[1], step):
                here = (rows >= row) & (rows < row + step) & (cols >= col) & (cols < col + step)
                side = (min(step, shape[0] - row), min(step, shape[1] - col))
                values = np.full((12, 7, *side), np.nan, np.float32)
                layers = np.full((len(pixels.layers), *side), np.nan, np.float32)
                values[:, :, rows[here] - row, cols[here] - col] = np.moveaxis(pixels.values[here], 0, -1)
                layers[:, rows[here] - row, cols[here] - col] = pixels.static[here].T
                writer.write(row, col, values)
                writer.write_layers(row, col, layers)
    return open_cube(out)


def write_msmtu_shares(pixels: PublishedPixels, out: str | Path, *, level: int = 2) -> AbundanceMap:
    """Write the shares of one level as an abundance map on the rebuilt grid."""
    if level not in pixels.shares:
        raise InputError(
            f"The data set holds no shares of level {level}; it has {join_words(pixels.shares) or 'none'}."
        )
    grid, rows, cols = rebuild_grid(pixels)
    legend = load_legend(f"sipna-{level}")
    content = np.full((len(legend), *grid.shape), np.nan, np.float32)
    content[:, rows, cols] = pixels.shares[level].T
    with AbundanceWriter(out, grid, legend) as writer:
        writer.write_shares(0, 0, content)
    return AbundanceMap(str(out), grid, legend)


def rebuild_grid(pixels: PublishedPixels) -> tuple[GeoBox, NDArray[np.int32], NDArray[np.int32]]:
    """Grid in degrees whose cell centres are the pixels, and row and column of each."""
    lacking = [name for name in ("longitude", "latitude") if name not in pixels.layers]
    if lacking:
        raise GridError(f"The data set holds no {join_words(lacking)}; without them its pixels lie nowhere.")
    x, y = (
        pixels.static[:, pixels.layers.index(name)].astype(np.float64) for name in ("longitude", "latitude")
    )
    if not (np.isfinite(x) & np.isfinite(y)).all():
        raise GridError("Some pixels have no longitude or latitude; leave them out.")
    left, top = x.min(), y.max()
    cols, rows = (np.rint(part / STEP_DEG) for part in (x - left, top - y))
    off = max(np.abs((x - left) / STEP_DEG - cols).max(), np.abs((top - y) / STEP_DEG - rows).max())
    places = set(zip(rows.tolist(), cols.tolist(), strict=True))
    if off > _OFF_GRID or len(places) < len(x):
        raise GridError(
            f"The pixels do not lie on one grid of {STEP_DEG:.7f} degrees (one is {off:.2f} cells off, "
            f"{len(x) - len(places)} share a cell). Were they moved or taken from another grid?"
        )
    affine = Affine(STEP_DEG, 0, left - STEP_DEG / 2, 0, -STEP_DEG, top + STEP_DEG / 2)
    grid = GeoBox((int(rows.max()) + 1, int(cols.max()) + 1), affine, "EPSG:4326")
    return grid, rows.astype(np.int32), cols.astype(np.int32)


def write_msmtu(pixels: PublishedPixels, folder: str | Path) -> Path:
    """Write pixels in the published layout: series with both directions, shares by partition, ancillary variables."""
    root = Path(folder)
    for k, number in enumerate(pixels.ids):
        values = pixels.values[k].astype(np.float64) * _SCALE
        masks = np.isfinite(values)
        plain = np.where(masks, values, 0.0)
        document = {
            "ts_data": {
                "forward": {"values": plain.tolist(), "masks": masks.astype(int).tolist()},
                "backward": {"values": plain[::-1].tolist(), "masks": masks[::-1].astype(int).tolist()},
            }
        }
        with write_whole(root / "ts_files" / f"{number:07d}.json") as part:
            part.write_text(json.dumps(document), encoding="utf-8")
    for level, shares in pixels.shares.items():
        codes = list(CLASS_CODES[level])
        for code, name in enumerate(PARTITIONS):
            mine = np.flatnonzero(pixels.splits[level] == code)
            rows = [
                [
                    pixels.ids[k],
                    *shares[k].astype(float).tolist(),
                    codes[int(shares[k].argmax())],
                    int(shares[k].argmax()),
                ]
                for k in mine
            ]
            path = root / "labels" / f"level_{level}" / "partitions" / f"{name}.csv"
            _write_csv(path, ["square_id", *codes, "Class_max", "Class_max_index"], rows)
    rows = [[number, *row] for number, row in zip(pixels.ids.tolist(), pixels.static.tolist(), strict=True)]
    _write_csv(root / "ancillary" / "topo_climatic.csv", ["square_id", *pixels.layers], rows)
    return root


def _read_series(file: Path) -> tuple[int, NDArray[np.float32], dict[str, float]]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        data = document["ts_data"]
        data = data.get("forward", data)
        values = np.array(data["values"], np.float64)
        masks = np.array(data["masks"], np.float64)
        ancillary = {str(key): float(value) for key, value in document.get("ancillary_data", {}).items()}
        number = document.get("metadata", {}).get("square_id", file.stem)
        number = int(float(number))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file}: is no series of Andalusia-MSMTU ({type(error).__name__}: {error})."
        ) from None
    if values.shape != (12, 7) or masks.shape != (12, 7):
        raise InputError(f"{file}: holds values of shape {values.shape}; 12 months x 7 bands are needed.")
    series = np.where((masks > 0) & np.isfinite(values), values / _SCALE, np.nan)
    return number, series.astype(np.float32), ancillary


def _shares(
    tables: Mapping[Path, Sequence[Mapping[str, str]]],
    place: Mapping[int, int],
    legend: Legend,
    codes: Mapping[str, str],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    shares = np.full((len(place), len(legend)), np.nan, np.float32)
    splits = np.full(len(place), 255, np.uint8)
    for file, rows in tables.items():
        if file.stem not in PARTITIONS or not rows:
            continue
        column = _class_columns(file, rows[0], legend, codes)
        for row in rows:
            k = place.get(int(float(row["square_id"])))
            if k is None:
                continue
            found = np.array([_number(file, row[name]) for name in column])
            total = found.sum()
            if not total > 0:
                raise InputError(
                    f"{file}: the shares of pixel {row['square_id']} sum to {total:g}; they must sum to 1."
                )
            shares[k] = found / total
            splits[k] = PARTITIONS.index(file.stem)
    return shares, splits


def _class_columns(file: Path, row: Mapping[str, str], legend: Legend, codes: Mapping[str, str]) -> list[str]:
    """Column of each class of the legend, by published code, our code or our name."""
    by_name = {key.strip().lower(): key for key in row if key}
    published = {name: code for code, name in codes.items()}
    column, lacking = [], []
    for item in legend.classes:
        for key in (published[item.code], item.code, item.name.lower()):
            if key in by_name:
                column.append(by_name[key])
                break
        else:
            lacking.append(f"{published[item.code]} ({item.name})")
    if lacking or "square_id" not in by_name:
        raise InputError(
            f"{file}: has no column for {join_words(lacking or ['square_id'])}; its columns are {join_words(row)}."
        )
    return column


def _read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as content:
        rows = list(csv.DictReader(content))
    if rows and "square_id" not in rows[0] and "" in rows[0]:
        return [{("square_id" if key == "" else key): value for key, value in row.items()} for row in rows]
    return rows


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
    with write_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)


def _number(file: Path, text: str) -> float:
    try:
        return float(text) if text != "" else float("nan")
    except ValueError:
        raise InputError(f"{file}: '{text}' is no number.") from None
