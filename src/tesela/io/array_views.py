"""Maps as arrays of xarray: with CRS, legend and nodata by the habits of CF, rioxarray and odc-geo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.errors import InputError, LegendError
from tesela.core.legend import Legend
from tesela.io.legends import legend_as_tag, legend_of_tag
from tesela.io.pixel_values import broken_file
from tesela.io.raster import open_dataset

if TYPE_CHECKING:
    import xarray as xr

LEGEND_ATTRIBUTE = "TESELA_LEGEND"
"""Attribute with the legend as JSON: the tag of our rasters, so that rioxarray reads and writes it, too."""

IN_MEMORY_BYTES = 256 << 20
"""Arrays up to this size are read at once; larger ones are lazy arrays of Dask, read from the file by window."""

_CHUNK_PX = 2048


def class_attributes(legend: Legend) -> dict[str, Any]:
    """
    Attributes of an array of classes: flags by the CF conventions, colours, nodata and the legend.

    Examples
    --------
    >>> from tesela.io.legends import open_legend
    >>> class_attributes(open_legend("corine-1"))["flag_meanings"]
    'artificial_surfaces agricultural_areas forest_and_semi_natural_areas wetlands water_bodies'
    """
    return {
        "flag_values": np.array(legend.values, np.uint8),
        "flag_meanings": " ".join(_words(item.name) for item in legend.classes),
        "flag_colors": " ".join(item.color for item in legend.classes),
        "long_name": legend.address,
        LEGEND_ATTRIBUTE: legend_as_tag(legend),
    }


def _words(text: str) -> str:
    """A name as CF writes it: words joined by underscores, without other signs."""
    kept = "".join(sign if sign.isalnum() or sign in "-+." else "_" for sign in text)
    return "_".join(part for part in kept.lower().split("_") if part) or "unnamed"


def legend_of_array(data: xr.DataArray | xr.Dataset) -> Legend | None:
    """
    Legend that an array of classes carries; None without one.

    Raises
    ------
    LegendError
        If it is damaged.
    """
    text = data.attrs.get(LEGEND_ATTRIBUTE)
    return None if text is None else legend_of_tag(str(text), where="The DataArray")


def required_legend(data: xr.DataArray) -> Legend:
    """
    Legend that an array of classes carries.

    Raises
    ------
    LegendError
        If it carries none, or a damaged one.
    """
    legend = legend_of_array(data)
    if legend is None:
        raise LegendError(
            "The DataArray does not name its legend; give it to tesela.open_map(array, legend=...), whose to_xarray() "
            "does."
        )
    return legend


@dataclass(frozen=True)
class _LazyBands:
    """Bands of a raster as Dask slices them; the file is opened for each window."""

    path: str
    bands: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    held: object
    """Keeps a temporary file as long as the array."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        *lead, rows, cols = (part.indices(size) for part, size in zip(key, self.shape, strict=True))
        window = Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
        bands = [self.bands[number] for number in range(*lead[0])] if lead else self.bands[0]
        with open_dataset(self.path) as data:
            try:
                values: NDArray[Any] = data.read(bands, window=window)
            except RasterioError as error:
                raise broken_file(self.path, error) from None
        return values


def raster_array(
    path: str,
    grid: GeoBox,
    *,
    name: str,
    names: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    held: object = None,
    lazy: bool | None = None,
) -> xr.DataArray:
    """
    Bands of a raster file as a DataArray.

    Parameters
    ----------
    grid : GeoBox
        Of the file.
    name : str
        Of the array.
    names : sequence of str, optional
        Coordinate `band`, one for each band; None for the first band without that dimension.
    attributes : mapping, optional
        Beside the number for nodata, scale and unit of the file.
    held : object
        What keeps a temporary file; a lazy array holds it.
    lazy : bool, optional
        Whether the array is one of Dask, read when it is computed; default: where it is over 256 MiB.

    Raises
    ------
    InputError
        If the file is broken, or the array is lazy and Dask is not installed.
    """
    import odc.geo.xr as odc_xr

    bands = [1] if names is None else list(range(1, len(names) + 1))
    with open_dataset(path) as data:
        dtype, own = np.dtype(data.dtypes[0]), _number_attributes(data)
    shape = (*(() if names is None else (len(bands),)), int(grid.shape[0]), int(grid.shape[1]))
    source = _LazyBands(path, tuple(bands), shape, dtype, held)
    size = int(np.prod(shape)) * dtype.itemsize
    everything = tuple(slice(None) for _ in shape)
    values = _as_dask(source) if (size > IN_MEMORY_BYTES if lazy is None else lazy) else source[everything]
    coordinates = odc_xr.xr_coords(grid, always_yx=True)
    dimensions = [*(() if names is None else ("band",)), "y", "x"]
    import xarray as xr

    array = xr.DataArray(
        values, dims=dimensions, coords=coordinates, name=name, attrs={**own, **(attributes or {})}
    )
    if names is not None:
        array = array.assign_coords(band=list(names))
    array.encoding["grid_mapping"] = "spatial_ref"
    return array


def _number_attributes(data: rasterio.DatasetReader) -> dict[str, Any]:
    """Nodata, scale and unit of a file as xarray and rioxarray write them."""
    own: dict[str, Any] = {}
    if data.nodata is not None:
        own["_FillValue"] = np.dtype(data.dtypes[0]).type(data.nodata)
    if (data.scales[0], data.offsets[0]) != (1.0, 0.0):
        own |= {"scale_factor": data.scales[0], "add_offset": data.offsets[0]}
    return own | ({"units": data.units[0]} if data.units[0] else {})


def _as_dask(source: _LazyBands) -> Any:
    try:
        import dask.array
    except ImportError:
        raise InputError(
            f"{source.path}: is too large to be read at once, and Dask is not installed, which reads it by window. "
            f"Install tesela[cluster], or read windows (tesela.open_map, MapReader)."
        ) from None
    chunks = (*source.shape[:-2], _CHUNK_PX, _CHUNK_PX)
    return dask.array.from_array(  # type: ignore[no-untyped-call]
        source, chunks=chunks, asarray=False, meta=np.empty((0,) * source.ndim, source.dtype)
    )
