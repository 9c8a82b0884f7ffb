"""The pixel table: series, layers and class shares of single pixels, with their split."""

from __future__ import annotations

import colorsys
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import GridError, InputError, join_words, unknown_name
from tesela.core.grid import crs_text, pixel_offset, windows
from tesela.core.legend import LandClass, Legend, sum_to_level
from tesela.io.abundance import AbundanceMap
from tesela.io.array_file import ArraySpool, map_arrays, write_arrays
from tesela.io.cube import Cube, month_of
from tesela.io.legends import open_legend
from tesela.io.manifest import write_whole
from tesela.io.msmtu import BANDS, TIMES, PublishedPixels, rebuild_grid
from tesela.io.series_table import SeriesTable
from tesela.io.timespec import LabelledSeries
from tesela.patches.table import NONE, SPLITS

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

NO_SPLIT = 255
"""Code of pixels that are not used; the other codes are positions in `SPLITS`: train, val, test."""


@dataclass(frozen=True, eq=False)
class PixelTable:
    """
    Pixels as arrays, one row each: input and target of a network, position and split.

    Read from cubes by `read_pixels` or from published files. 12 months of 7 bands take 0.4 kB a pixel: in memory, or in
    a file that `read_pixel_table` maps, so that millions of them need no memory.
    """

    values: NDArray[np.float32]
    """(pixels, times, bands), NaN for gaps."""
    static: NDArray[np.float32]
    """(pixels, layers), NaN where a layer has no data."""
    targets: NDArray[np.float32]
    """(pixels, classes) shares in the order of the legend, summing to 1; (pixels, 0) where there are none."""
    rows: NDArray[np.int32]
    """(pixels,) row in `grid`; where there is no grid, the number of the pixel: several years of one have the same."""
    cols: NDArray[np.int32]
    """(pixels,) column in `grid`; where there is none, the number of the year."""
    splits: NDArray[np.uint8]
    """(pixels,) 0 train, 1 val, 2 test, 255 none."""
    times: tuple[str, ...]
    """As in a cube."""
    bands: tuple[str, ...]
    layers: tuple[str, ...]
    legend: Legend | None = None
    """Classes of the targets."""
    grid: GeoBox | None = None
    """Grid that rows and columns are counted on."""

    def __post_init__(self) -> None:
        count = len(self.values)
        shapes = {
            "values": (self.values.shape, (count, len(self.times), len(self.bands))),
            "static": (self.static.shape, (count, len(self.layers))),
            "targets": (self.targets.shape, (count, 0 if self.legend is None else len(self.legend))),
            "rows": (self.rows.shape, (count,)),
            "cols": (self.cols.shape, (count,)),
            "splits": (self.splits.shape, (count,)),
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise InputError(f"A pixel table's {name} have the shape {shape}; {expected} was expected.")

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        legend = "no classes" if self.legend is None else self.legend.address
        counts = ", ".join(f"{count} {split}" for split, count in self.counts.items())
        return (
            f"<PixelTable of {legend}: {len(self)} pixels of {len(self.times)} times x {len(self.bands)} bands "
            f"and {len(self.layers)} layers ({counts})>"
        )

    @property
    def months(self) -> tuple[int, ...]:
        """Month of each time, 1 to 12."""
        return tuple(month_of(time) for time in self.times)

    @property
    def counts(self) -> dict[str, int]:
        """Number of pixels by split: train, val, test, none."""
        counts = np.bincount(self.splits, minlength=NO_SPLIT + 1)
        return {
            name: int(counts[code]) for name, code in zip((*SPLITS, NONE), (0, 1, 2, NO_SPLIT), strict=True)
        }

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.integer]) -> PixelTable:
        """Take the rows of a mask or of positions."""
        return replace(
            self,
            values=self.values[chosen],
            static=self.static[chosen],
            targets=self.targets[chosen],
            rows=self.rows[chosen],
            cols=self.cols[chosen],
            splits=self.splits[chosen],
        )

    def inputs_at(self, pixels: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Series (..., times, bands) and layers (..., layers) of (...) positions in the table; NaN at -1."""
        values, static = self.values[pixels], self.static[pixels]
        nowhere = pixels < 0
        if nowhere.any():
            values[nowhere], static[nowhere] = np.nan, np.nan
        return values, static

    def split(self, name: str) -> PixelTable:
        """Pixels of one split: "train", "val" or "test"."""
        if name not in SPLITS:
            raise InputError(unknown_name("split", name, SPLITS))
        return self.take(self.splits == SPLITS.index(name))

    def with_splits_of(self, other: PixelTable) -> PixelTable:
        """Take the splits of the pixels at the same rows and columns of another table; others are not used."""
        known = dict(
            zip(zip(other.rows.tolist(), other.cols.tolist(), strict=True), other.splits, strict=True)
        )
        places = zip(self.rows.tolist(), self.cols.tolist(), strict=True)
        return replace(self, splits=np.array([known.get(place, NO_SPLIT) for place in places], np.uint8))

    def select_layers(self, names: Sequence[str]) -> PixelTable:
        """Keep these ancillary layers, in this order."""
        for name in names:
            if name not in self.layers:
                raise InputError(f"The pixel table: {unknown_name('layer', name, self.layers)}")
        if tuple(names) == self.layers:
            return self
        chosen = [self.layers.index(name) for name in names]
        return replace(self, static=self.static[:, chosen], layers=tuple(names))

    def at_level(self, depth: int) -> PixelTable:
        """Add the shares of the children of each class of a coarser level: the targets of that level."""
        legend = self._legend()
        coarse = legend.level(depth)
        return replace(self, targets=sum_to_level(self.targets.T, legend, depth).T.copy(), legend=coarse)

    def split_mask(self, split: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(rows, cols) mask of the pixels of a split, on a grid of that shape."""
        chosen = self.splits == SPLITS.index(split)
        mask = np.zeros(shape, np.bool_)
        mask[self.rows[chosen], self.cols[chosen]] = True
        return mask

    def split_map(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """(rows, cols) split of each pixel of a grid of that shape; 255 where there is none."""
        splits = np.full(shape, NO_SPLIT, np.uint8)
        splits[self.rows, self.cols] = self.splits
        return splits

    def positions(self) -> NDArray[np.int32]:
        """(rows, cols) position in the table of each pixel of the grid, -1 where there is none."""
        if self.grid is None:
            raise GridError("The pixels have no grid, so they have no neighbours. Read them from a cube.")
        positions = np.full(tuple(self.grid.shape), -1, np.int32)
        positions[self.rows, self.cols] = np.arange(len(self), dtype=np.int32)
        return positions

    def write(self, path: str | Path) -> Path:
        """Write the table into one safetensors file, whole or not at all; `read_pixel_table` reads it."""
        document = {
            "times": self.times,
            "bands": self.bands,
            "layers": self.layers,
            "legend": None if self.legend is None else _legend_document(self.legend),
            "grid": None if self.grid is None else _grid_document(self.grid),
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with write_whole(path) as part:
            write_arrays(part, arrays, metadata={"tesela_pixels": json.dumps(document)})
        return Path(path)

    def _legend(self) -> Legend:
        if self.legend is None:
            raise InputError("The pixels have no class shares. Read them with an abundance map.")
        return self.legend


_ARRAYS = ("values", "static", "targets", "rows", "cols", "splits")


def read_pixels(
    cube: Cube,
    abundances: AbundanceMap | None = None,
    *,
    min_observed: float = 0.0,
    scratch: Path | None = None,
) -> PixelTable:
    """
    Read the pixels of a cube, with their class shares.

    Parameters
    ----------
    abundances : AbundanceMap, optional
        Shares on the pixels of the cube; pixels without shares are left out. Default: all pixels, no targets.
    min_observed : float
        Least share of the values of a pixel that are not gaps; pixels without any value are always left out.
    scratch : Path, optional
        Folder for the pixels: they are written there block by block and mapped, so that memory stays flat; it must stay
        while the table is used. Default: in memory.

    Raises
    ------
    GridError
        If the shares have another grid.
    InputError
        If no pixel is left, or a file is damaged.
    """
    if abundances is not None and pixel_offset(cube.grid, abundances.grid) is None:
        raise GridError(
            f"{abundances.path} and {cube.path} have different pixels. Make the shares on the grid of the "
            f"cube (tesela label REFERENCE --like CUBE --fractions)."
        )
    blocks: list[dict[str, NDArray[Any]]] = []
    spool = None if scratch is None else ArraySpool(scratch)
    for row, col, grid in windows(cube.grid, cube.chunk_px):
        values = cube.read(grid)
        kept = np.isfinite(values).mean(axis=(0, 1)) >= max(min_observed, 1e-9)
        shares = np.zeros((0, *grid.shape), np.float32)
        if abundances is not None:
            shares = abundances.read(grid)
            kept &= np.isfinite(shares).all(axis=0)
        if not kept.any():
            continue
        rows, cols = np.nonzero(kept)
        block = {
            "values": np.moveaxis(values[..., kept], -1, 0),
            "static": cube.read_layers(grid=grid)[:, kept].T,
            "targets": shares[:, kept].T,
            "rows": (rows + row).astype(np.int32),
            "cols": (cols + col).astype(np.int32),
        }
        if spool is None:
            blocks.append(block)
        else:
            spool.append(block)
    if not blocks and not spool:
        what = "" if abundances is None else f" with class shares in {abundances.path}"
        raise InputError(f"{cube.path}: has no observed pixel{what}. Check that both cover the same area.")
    arrays = (
        {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        if spool is None
        else spool.arrays()
    )
    return PixelTable(
        **arrays,
        splits=np.full(len(arrays["values"]), NO_SPLIT, np.uint8),
        times=cube.times,
        bands=cube.bands,
        layers=cube.layers,
        legend=None if abundances is None else abundances.legend,
        grid=cube.grid,
    )


def read_pixel_table(path: str | Path) -> PixelTable:
    """
    Open a table that `PixelTable.write` wrote; its arrays are mapped, and read when they are used.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not a pixel table.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    metadata, arrays = map_arrays(path)
    text = metadata.get("tesela_pixels")
    if text is None or set(arrays) != set(_ARRAYS):
        raise InputError(f"{path}: is not a pixel table of Tesela.")
    document = json.loads(text)
    legend, grid = document["legend"], document["grid"]
    return PixelTable(
        **arrays,
        times=tuple(document["times"]),
        bands=tuple(document["bands"]),
        layers=tuple(document["layers"]),
        legend=None
        if legend is None
        else Legend.from_rows(legend["name"], legend["rows"], levels=legend["levels"]),
        grid=None if grid is None else GeoBox(tuple(grid["shape"]), Affine(*grid["transform"]), grid["crs"]),
    )


def table_of_msmtu(pixels: PublishedPixels, *, level: int = 2) -> PixelTable:
    """
    Pixels of Andalusia-MSMTU with their shares and published partitions, on the reconstructed grid.

    Raises
    ------
    InputError
        If there are no shares of that level.
    GridError
        If the pixels are not on one grid.
    """
    if level not in pixels.shares:
        raise InputError(
            f"The data set has no shares of level {level}; it has {join_words(pixels.shares) or 'none'}."
        )
    grid, rows, cols = rebuild_grid(pixels)
    table = PixelTable(
        values=pixels.values,
        static=pixels.static,
        targets=pixels.shares[level],
        rows=rows,
        cols=cols,
        splits=pixels.splits[level],
        times=TIMES,
        bands=BANDS,
        layers=pixels.layers,
        legend=open_legend(f"sipna-{level}"),
        grid=grid,
    )
    return table.take(np.flatnonzero(np.isfinite(table.targets).all(axis=1)))


def table_of_series(series: SeriesTable) -> PixelTable:
    """Labelled series of a CSV, each with one class as the whole pixel; without layers and grid."""
    return _of_classes(
        series.values,
        series.labels,
        series.pixels,
        legend=_legend_of("series", series.classes),
        times=tuple(f"{month:02d}" for month in series.months),
        bands=series.bands,
    )


def table_of_timespec(series: LabelledSeries) -> PixelTable:
    """Windows of TimeSpec4LULC, each with one class as the whole pixel; without layers and grid."""
    return _of_classes(
        series.values,
        series.labels,
        np.arange(len(series)) if series.pixels is None else series.pixels,
        legend=_legend_of("timespec4lulc", series.classes),
        times=TIMES,
        bands=BANDS,
    )


def _legend_of(name: str, classes: Sequence[str]) -> Legend:
    return Legend(
        name,
        tuple(LandClass(k + 1, str(k + 1), text, _color(k, len(classes))) for k, text in enumerate(classes)),
    )


def _of_classes(
    values: NDArray[np.float32],
    labels: NDArray[np.int64],
    pixels: NDArray[np.integer],
    *,
    legend: Legend,
    times: tuple[str, ...],
    bands: tuple[str, ...],
) -> PixelTable:
    """Series of one class each, with the number of their pixel as row and that of the year as column."""
    count = len(values)
    seen: Counter[int] = Counter()
    years = np.empty(count, np.int32)
    for number, pixel in enumerate(pixels.tolist()):
        years[number] = seen[pixel]
        seen[pixel] += 1
    return PixelTable(
        values=values,
        static=np.zeros((count, 0), np.float32),
        targets=np.eye(len(legend), dtype=np.float32)[labels],
        rows=pixels.astype(np.int32),
        cols=years,
        splits=np.full(count, NO_SPLIT, np.uint8),
        times=times,
        bands=bands,
        layers=(),
        legend=legend,
    )


def _legend_document(legend: Legend) -> dict[str, object]:
    return {"name": legend.name, "levels": legend.levels, "rows": legend.to_rows()}


def _grid_document(grid: GeoBox) -> dict[str, object]:
    return {"shape": list(grid.shape), "transform": list(grid.affine)[:6], "crs": crs_text(grid)}


def _color(number: int, count: int) -> str:
    red, green, blue = colorsys.hsv_to_rgb(number / count, 0.6, 0.8)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
