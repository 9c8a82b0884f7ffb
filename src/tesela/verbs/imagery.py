"""Verbs that make imagery: mosaics of Sentinel-2, cubes of MODIS or of any images, static layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError
from tesela.core.extras import need
from tesela.core.units import parse_memory_bytes
from tesela.io.references import Reference, reference_file

if TYPE_CHECKING:
    from tesela.io.cube import Cube
    from tesela.sources.areas import Area
    from tesela.sources.mosaic.job import Mosaic

Progress = Callable[[int, int], None]
AreaSource = Reference | Sequence[float] | None
"""West, south, east and north in degrees, as text or numbers; polygons as a path or a GeoDataFrame."""


def _no_progress(done: int, total: int) -> None:
    """Report nothing."""


def _area(
    area: AreaSource,
    *,
    layer: str | None = None,
    like: object = None,
    crs: str | None = None,
    resolution: float | None = None,
) -> Area:
    from tesela.sources.areas import make_area

    if isinstance(area, list | tuple):
        area = ",".join(str(side) for side in area)
    with ExitStack() as stack:
        file = None if area is None else stack.enter_context(reference_file(area))
        return make_area(file, layer=layer, like=like, crs=crs, resolution_m=resolution)


def mosaic_sentinel_2(
    out: str | Path,
    *,
    year: int,
    area: AreaSource = None,
    area_layer: str | None = None,
    like: object = None,
    months: str = "4,7,9",
    catalogue: str = "earth-search",
    collection: str | None = None,
    bands: str = "all",
    rule: str = "median",
    crs: str | None = None,
    resolution: float | None = None,
    buffer: str | float = "60 m",
    mask: str = "0,1,2,3,8,9,10",
    max_cloud: float = 100.0,
    incomplete: str = "skip",
    without: Sequence[str] = (),
    memory: str | int = "512 MiB",
    workers: int = 8,
    cluster: str | None = None,
    tries: int = 6,
    timeout: float = 30.0,
    progress: Progress = _no_progress,
) -> list[Mosaic]:
    """
    Make cloud-free mosaics of Sentinel-2; see `tesela.sources.mosaic.mosaic.write_mosaics`.

    After a crash or a lost connection the same call continues.

    Parameters
    ----------
    out : path
        Folder of the mosaics.
    area : text, four numbers, path or GeoDataFrame, optional
        West, south, east and north in degrees, or polygons.
    like : path, DataArray, Scene, map or GeoBox, optional
        What gives the grid, instead of `crs` and `resolution`.
    months : str
        One mosaic per month, "4,7,9"; or of several months, "6-8".
    catalogue : str
        See `tesela.open_catalogue`.
    mask : str
        Classes of the scene classification to leave out.
    tries, timeout
        Tries of a request that fails, and seconds without a response that count as a failure.

    Raises
    ------
    InputError
        As `write_mosaics`.
    """
    from tesela.io.http import RetryPolicy
    from tesela.sources.mosaic.mosaic import write_mosaics
    from tesela.sources.periods import parse_periods
    from tesela.sources.providers import open_catalogue

    need("scipy")
    return write_mosaics(
        open_catalogue(catalogue),
        _area(area, layer=area_layer, like=like, crs=crs, resolution=resolution),
        out,
        periods=parse_periods(months, year),
        bands=bands,
        rule=rule,
        buffer=buffer,
        masked=mask,
        max_cloud=max_cloud,
        incomplete=incomplete,
        without=without,
        collection=collection,
        memory=memory,
        workers=workers,
        patience=RetryPolicy(tries=tries, timeout_s=timeout),
        cluster=cluster,
        progress=progress,
    )


def mosaic_modis(
    out: str | Path,
    folder: Sequence[str | Path] = (),
    *,
    area: AreaSource = None,
    area_layer: str | None = None,
    like: object = None,
    first: str | None = None,
    last: str | None = None,
    catalogue: str = "planetary-computer",
    collection: str | None = None,
    climatology: bool = False,
    quality: Sequence[str] = (),
    merge: str = "satellites",
    dem: str | Path | None = None,
    layer: Mapping[str, str | Path] | None = None,
    memory: str | int = "256 MiB",
    cluster: str | None = None,
    tries: int = 6,
    timeout: float = 30.0,
    progress: Progress = _no_progress,
) -> Cube:
    """
    Make a monthly cube of MODIS (MOD09A1 and MYD09A1); see `tesela.sources.modis.cube.write_modis_cube`.

    Parameters
    ----------
    out : path
        The cube, a Zarr folder.
    folder : sequence of paths
        Folders or files, in place of a catalogue; they need neither area nor months.
    first, last : str, optional
        Months, such as "2012-01" and "2013-12".
    quality : sequence of str
        Which observations count, such as "aerosol=1".
    dem : path, optional
        Elevation raster; adds altitude and slope.
    layer : mapping of paths, optional
        Further rasters by name, averaged over each cell.

    Raises
    ------
    InputError
        As `write_modis_cube`, and if a catalogue is searched without area or months.
    """
    from tesela.io.http import RetryPolicy
    from tesela.io.sinusoidal import modis_grid
    from tesela.sources.ancillary import Ancillary
    from tesela.sources.modis.cube import write_modis_cube
    from tesela.sources.modis.files import holds_items, modis_addresses
    from tesela.sources.modis.quality import parse_rule
    from tesela.sources.periods import month_span
    from tesela.sources.providers import open_catalogue

    need("zarr")
    extent = None if area is None and like is None else _area(area, layer=area_layer, like=like)
    where = open_catalogue(catalogue)
    months = None if first is None or last is None else (first, last)
    if (first is None) != (last is None):
        raise InputError("Give both the first and the last month: --first 2012-01 and --last 2013-12.")
    patience = RetryPolicy(tries=tries, timeout_s=timeout)
    sources: list[str]
    if folder:
        sources = [str(item) for item in folder]
    elif where.is_remote or holds_items(where.address) or Path(where.address).is_file():
        if extent is None or months is None:
            raise InputError("A catalogue needs an area and months: --area, --first 2012-01, --last 2013-12.")
        begin, end = month_span(*months)
        sources = modis_addresses(
            where, where.web(patience), extent, first=begin, last=end, collection=collection
        )
    else:
        sources = [where.address]
    return write_modis_cube(
        sources,
        out,
        grid=None if extent is None else modis_grid(extent.grid),
        months=months,
        climatology=climatology,
        rule=parse_rule(quality),
        merge=merge,  # type: ignore[arg-type]  # checked there
        ancillary=Ancillary(
            dem=None if dem is None else str(dem),
            rasters={name: str(path) for name, path in (layer or {}).items()},
        ),
        memory_bytes=parse_memory_bytes(memory),
        catalogue=where,
        patience=patience,
        cluster=cluster,
        progress=progress,
    )


def mosaic_stack(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    bands: Sequence[str] | None = None,
    dates: Sequence[str] = (),
    period: str = "month",
    climatology: bool = False,
    mask: Sequence[str] = (),
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    like: object = None,
    dem: str | Path | None = None,
    layer: Mapping[str, str | Path] | None = None,
    memory: str | int = "256 MiB",
    cluster: str | None = None,
    progress: Progress = _no_progress,
) -> Cube:
    """
    Make a monthly cube of any images with dates; see `tesela.sources.stack.cube.write_stack_cube`.

    Parameters
    ----------
    sources : sequence of paths
        Rasters with dates in their names or in those of their bands; folders; NetCDF; Zarr.
    out : path
        The cube, a Zarr folder.
    dates : sequence of str
        Dates in order, where no name has one: ["2010-01..2010-12"].
    mask : sequence of str
        Pixels to leave out: "SCL=0,1,3" by value, "QA_PIXEL:1,3" by bit.

    Raises
    ------
    GridError, InputError
        As `write_stack_cube`.
    """
    from tesela.io.cube import open_grid
    from tesela.sources.ancillary import Ancillary
    from tesela.sources.stack.cube import write_stack_cube
    from tesela.sources.stack.dates import parse_dates
    from tesela.sources.stack.reading import Unit, parse_mask

    need("zarr")
    return write_stack_cube(
        [str(item) for item in ([sources] if isinstance(sources, str | Path) else sources)],
        out,
        bands=bands,
        dates=parse_dates(list(dates)),
        period=period,  # type: ignore[arg-type]  # checked there
        climatology=climatology,
        unit=Unit(scale, offset, nodata),
        masks=[parse_mask(text) for text in mask],
        grid=None if like is None else open_grid(like),
        ancillary=Ancillary(
            dem=None if dem is None else str(dem),
            rasters={name: str(path) for name, path in (layer or {}).items()},
        ),
        memory_bytes=parse_memory_bytes(memory),
        cluster=cluster,
        progress=progress,
    )


def mosaic_layer(
    out: str | Path,
    *,
    collection: str,
    asset: str,
    area: AreaSource = None,
    area_layer: str | None = None,
    like: object = None,
    catalogue: str = "planetary-computer",
    year: int | None = None,
    classes: bool = False,
    nodata: float | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    tries: int = 6,
    timeout: float = 30.0,
    progress: Progress = _no_progress,
) -> Path:
    """
    Join a static layer, such as elevation or land cover; see `tesela.sources.layers.write_layer_mosaic`.

    Parameters
    ----------
    out : path
        The raster.
    collection, asset : str
        Such as "cop-dem-glo-30" and "data".
    area, area_layer, like, catalogue, crs, resolution, tries, timeout
        As in `mosaic_sentinel_2`.

    Raises
    ------
    InputError
        As `write_layer_mosaic`.
    """
    from tesela.io.http import RetryPolicy
    from tesela.sources.layers import write_layer_mosaic
    from tesela.sources.providers import open_catalogue

    return write_layer_mosaic(
        open_catalogue(catalogue),
        _area(area, layer=area_layer, like=like, crs=crs, resolution=resolution),
        out,
        collection=collection,
        asset=asset,
        year=year,
        classes=classes,
        nodata=nodata,
        patience=RetryPolicy(tries=tries, timeout_s=timeout),
        progress=progress,
    )
