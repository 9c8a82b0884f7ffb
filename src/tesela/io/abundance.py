"""Abundance maps: rasters with the share of each cell that each class of a legend covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from tesela.core.errors import InputError, LegendError, join_words, wrong_kind
from tesela.core.legend import Legend
from tesela.io.array_views import LEGEND_ATTRIBUTE, raster_array
from tesela.io.arrays import is_array, write_array
from tesela.io.cog import CogWriter
from tesela.io.held import Held
from tesela.io.legends import legend_as_tag, legend_of_tag
from tesela.io.manifest import write_text
from tesela.io.pixel_values import read_pixel_values
from tesela.io.ramp_style import ramp_style
from tesela.io.raster import grid_of, open_dataset

if TYPE_CHECKING:
    import xarray as xr

STEPS = 10_000
"""Shares are stored as multiples of one ten-thousandth: 0.25 is 2500."""

MISSING = 65_535
"""Stored in all bands of cells without data."""


@dataclass(frozen=True)
class AbundanceMap:
    """A raster with one band per class of a legend, in its order: uint16 x 1/10000, 65535 for nodata."""

    path: str
    grid: GeoBox
    legend: Legend
    layers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Rasters written in the same pass, by name: "uncertainty", "classes", "prior"."""
    details: object = field(default=None, repr=False, compare=False)
    """How the verb that made the map made it, such as an `Unmixing`; None for an opened map."""
    held: object = field(default=None, repr=False, compare=False)
    """What keeps the temporary files of a map that was given no path; see `tesela.io.held`."""

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        name = Path(self.path).name
        return f"<AbundanceMap {name}: {self.legend.address}, {rows} x {cols} cells, {self.grid.crs}>"

    def read(self, grid: GeoBox | None = None) -> NDArray[np.float32]:
        """
        Shares of the classes, (classes, rows, cols) float32, NaN where there are none.

        Parameters
        ----------
        grid : GeoBox, optional
            A window of the map's own cells; default: all of it. On other grids the nearest cell is taken.

        Raises
        ------
        InputError
            If the file is missing or broken.
        """
        with open_dataset(self.path) as data:
            bands = list(range(1, len(self.legend) + 1))
            raw, valid = read_pixel_values(data, bands, grid or self.grid, nodata=MISSING, continuous=False)
        shares = raw.astype(np.float32) / np.float32(STEPS)
        shares[~valid] = np.nan
        return shares

    def to_xarray(self, *, lazy: bool | None = None) -> xr.Dataset:
        """
        Shares as a Dataset with one variable per class, named by its code: (y, x) uint16 x 1/10000, with CRS and name.

        `scale_factor` and `_FillValue` are attributes: ``xarray.decode_cf`` gives floats with NaN.

        Parameters
        ----------
        lazy : bool, optional
            Whether the arrays are of Dask, read when they are computed; default: where they are over 256 MiB.
        """
        import xarray as xr

        whole = raster_array(
            self.path, self.grid, name="shares", names=self.legend.codes, held=self.held, lazy=lazy
        )
        parts = {}
        for item in self.legend.classes:
            part = whole.sel(band=item.code, drop=True).rename(item.code)
            part.attrs = {**whole.attrs, "long_name": item.name}
            part.encoding["grid_mapping"] = "spatial_ref"
            parts[item.code] = part
        return xr.Dataset(parts, attrs={LEGEND_ATTRIBUTE: legend_as_tag(self.legend)})

    def _repr_html_(self) -> str:
        from tesela.io.abundance_views import abundance_card

        return abundance_card(self)


AbundanceSource: TypeAlias = Union[str, Path, AbundanceMap, "xr.DataArray", "xr.Dataset"]
"""What is opened as an abundance map."""


def open_abundance(path: AbundanceSource, *, legend: Legend | None = None) -> AbundanceMap:
    """
    Describe an abundance map; the legend is read from the file where Tesela wrote it.

    An `AbundanceMap` is returned as it is; the Dataset of `AbundanceMap.to_xarray` is written to a temporary file.

    Raises
    ------
    InputError
        If the file is missing, is no raster of uint16, or has more or fewer bands than the legend classes.
    LegendError
        If the file does not name its legend and none is given.
    """
    if isinstance(path, AbundanceMap):
        return path
    if is_array(path):
        return _abundance_of_array(path, legend)
    if not isinstance(path, str | Path):
        raise wrong_kind("An abundance map", "a path, an AbundanceMap, or its Dataset", path)
    with open_dataset(path) as data:
        kinds, tag, grid = set(data.dtypes), data.tags().get(LEGEND_ATTRIBUTE), grid_of(data)
        count = data.count
    if kinds != {"uint16"}:
        raise InputError(
            f"{path}: holds {', '.join(sorted(kinds))}; an abundance map holds uint16, 10000 for a full cell."
        )
    if legend is None:
        if not tag:
            raise LegendError(
                f"{path}: does not name its legend; name it (--legend sipna-1, or a CSV of your own)."
            )
        legend = legend_of_tag(tag, where=path)
    if count != len(legend):
        raise InputError(
            f"{path}: has {count} bands, but legend '{legend.address}' has {len(legend)} classes; an "
            f"abundance map has one band per class."
        )
    return AbundanceMap(str(path), grid, legend)


def _abundance_of_array(data: xr.DataArray | xr.Dataset, legend: Legend | None) -> AbundanceMap:
    tag = data.attrs.get(LEGEND_ATTRIBUTE)
    if legend is None and tag is None:
        raise LegendError("The Dataset of shares does not name its legend; give it (legend=).")
    legend = legend_of_tag(str(tag), where="The Dataset") if legend is None else legend
    names = set(getattr(data, "data_vars", ()))
    missing = [code for code in legend.codes if code not in names]
    if missing:
        raise InputError(
            f"The Dataset has no variable for {join_words(missing, most=5)} of legend '{legend.address}'; shares have "
            f"one per class, named by its code."
        )
    held = Held()
    stacked = data[list(legend.codes)].to_array("band")
    stacked.attrs = dict(data[legend.codes[0]].attrs) | {"long_name": list(legend.codes)}
    files = write_array(stacked, held.folder, tags={LEGEND_ATTRIBUTE: legend_as_tag(legend)})
    return replace(open_abundance(files[0]), held=held)


def band_names(legend: Legend) -> tuple[str, ...]:
    """Names of the bands of shares: those of the classes; their codes where two names are equal."""
    return legend.names if len(set(legend.names)) == len(legend) else legend.codes


class AbundanceWriter(CogWriter):
    """Writes an abundance map by windows, as a COG whose bands are named after the classes."""

    overviews = "mean"
    packing = "deflate"

    def __init__(self, path: str | Path, grid: GeoBox, legend: Legend) -> None:
        super().__init__(path, grid, bands=len(legend), nodata=MISSING, dtype="uint16")
        self.legend = legend

    def write_shares(self, row: int, col: int, shares: NDArray[np.floating]) -> None:
        """
        Write a window of shares, rounded so that each cell's sum stays 1.

        Parameters
        ----------
        row, col : int
            Corner of the window.
        shares : (classes, rows, cols) array of float
            Sum 1 in each cell, or NaN where there is no data.
        """
        self.write(row, col, round_shares(shares))

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Names, scale, unit and legend."""
        legend = self.legend
        data.descriptions = band_names(legend)
        data.scales = (1 / STEPS,) * len(legend)
        data.units = ("share",) * len(legend)
        data.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (len(legend) - 1)
        data.update_tags(**{LEGEND_ATTRIBUTE: legend_as_tag(legend)})

    def finish_beside(self) -> None:
        """QGIS style of the first class; the other bands are chosen in QGIS."""
        write_text(self.path.with_suffix(".qml"), ramp_style(1.0, unit="share"))


class ErrorWriter(CogWriter):
    """Writes the error of an abundance map by windows: bands "rmse" and "rrmse", uint16 x 1/10000."""

    overviews = "mean"
    packing = "deflate"

    def __init__(self, path: str | Path, grid: GeoBox) -> None:
        super().__init__(path, grid, bands=2, nodata=MISSING, dtype="uint16")

    def write_errors(self, row: int, col: int, errors: NDArray[np.floating]) -> None:
        """Write a window of errors, (2, rows, cols) float, NaN where nothing was assessed."""
        steps = np.clip(np.rint(np.nan_to_num(errors) * STEPS), 0, MISSING - 1).astype(np.uint16)
        self.write(row, col, np.where(np.isnan(errors), np.uint16(MISSING), steps))

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Names, scale and unit."""
        data.descriptions = ("rmse", "rrmse")
        data.scales = (1 / STEPS,) * 2
        data.units = ("share",) * 2

    def finish_beside(self) -> None:
        """QGIS style of the root mean square error; half of the cell is brightest."""
        write_text(self.path.with_suffix(".qml"), ramp_style(0.5, unit="share"))


def round_shares(shares: NDArray[np.floating]) -> NDArray[np.uint16]:
    """
    Round shares to whole steps of 1/10000 by largest remainder, so that a sum of 1 stays exactly 1.

    Each share moves by less than one step; equal remainders are served in the order of the classes.

    Parameters
    ----------
    shares : (classes, rows, cols) array of float
        Each cell's shares sum to 1; NaN where there is no data.

    Returns
    -------
    (classes, rows, cols) array of uint16
        65535 where there is no data.

    Raises
    ------
    InputError
        If the shares of a cell do not sum to 1 within half a step, or one is negative.

    Examples
    --------
    >>> round_shares(np.full((3, 1, 1), 1 / 3)).ravel().tolist()
    [3334, 3333, 3333]
    """
    missing = np.isnan(shares).any(axis=0)
    steps = np.where(missing, 0.0, shares.astype(np.float64)) * STEPS
    sums = steps.sum(axis=0)
    if (np.abs(sums - STEPS)[~missing] > 0.5).any() or (steps < -0.5).any():
        least, most = sums[~missing].min() / STEPS, sums[~missing].max() / STEPS
        raise InputError(
            f"The shares of a cell sum to between {least:.4g} and {most:.4g}; they must sum to 1 and none be "
            f"negative. Divide them by their sum."
        )
    steps = np.maximum(steps, 0.0)
    whole = np.floor(steps)
    left = np.where(missing, 0.0, STEPS - whole.sum(axis=0))
    order = np.argsort(whole - steps, axis=0, kind="stable")
    rank = np.argsort(order, axis=0, kind="stable")
    whole += rank < left
    out: NDArray[np.uint16] = whole.astype(np.uint16)
    out[:, missing] = MISSING
    return out
