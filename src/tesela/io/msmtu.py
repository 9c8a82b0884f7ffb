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
from tesela.io.abundance import AbundanceMap, AbundanceWriter
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter
from tesela.io.legends import open_legend
from tesela.io.manifest import write_text, write_whole
from tesela.io.msmtu_tables import (
    CLASS_CODES,
    PARTITIONS,
    ancillary_of,
    pixel_number,
    read_pixel_csv,
    shares_of,
)

STEP_DEG = 463.3127165694 / 111_319.490793
"""Spacing of the pixels, in degrees of longitude and latitude alike."""

BANDS = tuple(f"sur_refl_b{number:02d}" for number in range(1, 8))
TIMES = tuple(f"{month:02d}" for month in range(1, 13))
_SCALE = 10_000.0
_OFF_GRID = 0.25
"""Largest distance of a pixel from the centre of its cell, in cells."""
_MOST_CELLS = 100_000_000
"""A grid with more cells is nearly empty: a coordinate is wrong."""
_VALID = (-100.0, 16_000.0)
"""Values outside are gaps, see the product's guide."""
_ROWS = 256
"""Rows written at a time."""


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
    Read the published folder; its files may be in any subfolder.

    Series are JSON files, one a pixel, in either published layout: `ts_data.forward` with values and masks, or both
    in `ts_data`, beside `ancillary_data`. A mask of 0 is a gap, whatever the value, and so is a value out of
    the valid range. JSON files that are neither named after a pixel nor hold a series are skipped. Shares are
    ``train.csv``, ``validation.csv`` and ``test.csv`` below ``level_1`` and ``level_2``; classes are recognised by the
    published codes or our names, not by their order. Any other CSV with `square_id` in a folder "ancillary", or with
    `longitude` and `latitude`, holds ancillary variables, recognised by name.

    Raises
    ------
    InputError
        If there are no series, a file is not as described, or a pixel occurs twice.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder}: no such folder. Give the folder of the unpacked data set.")
    series: dict[int, NDArray[np.float32]] = {}
    named: dict[int, dict[str, float]] = {}
    origin: dict[int, Path] = {}
    for file in sorted(root.rglob("*.json")):
        content = _read_series(file)
        if content is None:
            continue
        number, values, ancillary = content
        if number in origin:
            raise InputError(f"{file}: pixel {number} is also in {origin[number]}; keep one of them.")
        series[number], named[number], origin[number] = values, ancillary, file
    if not series:
        raise InputError(f"{folder}: holds no JSON series. Give the folder of the unpacked data set.")
    tables = [table for file in sorted(root.rglob("*.csv")) if (table := read_pixel_csv(file)) is not None]
    ids = np.array(sorted(series), np.int64)
    rows = {int(number): k for k, number in enumerate(ids)}
    shares, splits = {}, {}
    for level in CLASS_CODES:
        if any(f"level_{level}" in table.file.as_posix() for table in tables):
            shares[level], splits[level] = shares_of(tables, rows, level=level)
    others = [table for table in tables if "level_" not in table.file.as_posix()]
    for number, variables in ancillary_of(others, rows):
        named[number] |= variables
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
    Write the pixels on their grid, as a cube of reflectances and layers.

    Raises
    ------
    GridError
        If longitude and latitude are missing, or are not on one regular grid.
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
    legend = open_legend(f"sipna-{level}")
    with AbundanceWriter(out, grid, legend) as writer:
        for row in range(0, int(grid.shape[0]), _ROWS):
            here = (rows >= row) & (rows < row + _ROWS)
            strip = (len(legend), min(_ROWS, int(grid.shape[0]) - row), int(grid.shape[1]))
            content = np.full(strip, np.nan, np.float32)
            content[:, rows[here] - row, cols[here]] = pixels.shares[level][here].T
            writer.write_shares(row, 0, content)
    return AbundanceMap(str(out), grid, legend)


def rebuild_grid(pixels: PublishedPixels) -> tuple[GeoBox, NDArray[np.int32], NDArray[np.int32]]:
    """Grid in degrees whose cell centres are the pixels, and row and column of each."""
    lacking = [name for name in ("longitude", "latitude") if name not in pixels.layers]
    if lacking:
        raise GridError(
            f"The data set holds no {join_words(lacking)}; without them its pixels have no position."
        )
    x, y = (
        pixels.static[:, pixels.layers.index(name)].astype(np.float64) for name in ("longitude", "latitude")
    )
    without = pixels.ids[~(np.isfinite(x) & np.isfinite(y))]
    if without.size:
        raise GridError(
            f"Pixels {join_words(without.tolist(), most=5)} have no longitude or latitude; leave them out."
        )
    if np.abs(x).max() > 180 or np.abs(y).max() > 90:
        raise GridError(
            f"Longitudes reach {np.abs(x).max():g} and latitudes {np.abs(y).max():g} degrees; 180 and 90 are the most."
        )
    left, top = x.min(), y.max()
    cols, rows = (np.rint(part / STEP_DEG) for part in (x - left, top - y))
    off = max(np.abs((x - left) / STEP_DEG - cols).max(), np.abs((top - y) / STEP_DEG - rows).max())
    cells = set(zip(rows.tolist(), cols.tolist(), strict=True))
    if off > _OFF_GRID or len(cells) < len(x):
        raise GridError(
            f"The pixels are not on one grid of {STEP_DEG:.7f} degrees (one is {off:.2f} cells off, "
            f"{len(x) - len(cells)} share a cell). Were they moved or taken from another grid?"
        )
    if (size := (rows.max() + 1) * (cols.max() + 1)) > _MOST_CELLS:
        raise GridError(
            f"The {len(x)} pixels are so far apart that their grid has {size:.2g} cells; is a coordinate wrong?"
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
        write_text(root / "ts_files" / f"{number:07d}.json", json.dumps(document))
    for level, shares in pixels.shares.items():
        codes = list(CLASS_CODES[level])
        for code, name in enumerate(PARTITIONS):
            members = np.flatnonzero(pixels.splits[level] == code)
            rows = [
                [
                    pixels.ids[k],
                    *shares[k].astype(float).tolist(),
                    codes[int(shares[k].argmax())],
                    int(shares[k].argmax()),
                ]
                for k in members
            ]
            path = root / "labels" / f"level_{level}" / "partitions" / f"{name}.csv"
            _write_csv(path, ["square_id", *codes, "Class_max", "Class_max_index"], rows)
    rows = [[number, *row] for number, row in zip(pixels.ids.tolist(), pixels.static.tolist(), strict=True)]
    _write_csv(root / "ancillary" / "topo_climatic.csv", ["square_id", *pixels.layers], rows)
    return root


def _read_series(file: Path) -> tuple[int, NDArray[np.float32], dict[str, float]] | None:
    """Number, reflectance and ancillary variables of a pixel; None for a JSON file of no pixel."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if "ts_data" not in document and not file.stem.isdigit():
            return None
        data = document["ts_data"]
        data = data.get("forward", data)
        values = np.array(data["values"], np.float64)
        masks = np.array(data["masks"], np.float64)
        ancillary = {
            str(key): np.nan if value is None else float(value)
            for key, value in (document.get("ancillary_data") or {}).items()
        }
        number = pixel_number((document.get("metadata") or {}).get("square_id", file.stem))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file}: is no series of Andalusia-MSMTU ({type(error).__name__}: {error})."
        ) from None
    if values.shape != (12, 7) or masks.shape != (12, 7):
        raise InputError(f"{file}: holds values of shape {values.shape}; 12 months x 7 bands are needed.")
    least, most = _VALID
    series = np.where((masks > 0) & (values >= least) & (values <= most), values / _SCALE, np.nan)
    return number, series.astype(np.float32), ancillary


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
    with write_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
