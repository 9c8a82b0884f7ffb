"""Verbs that make imagery: mosaics of Sentinel-2, cubes of MODIS or of any images, static layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from tesela.core.errors import InputError
from tesela.core.extras import need
from tesela.core.units import parse_memory_bytes
from tesela.io.arrays import is_array, write_array
from tesela.io.held import Held
from tesela.io.references import Reference, reference_file
from tesela.io.scenes import SceneSource, open_scene
from tesela.verbs.answers import Place

if TYPE_CHECKING:
    import xarray as xr

    from tesela.core.scene import Scene
    from tesela.io.cube import Cube
    from tesela.sources.ancillary import Ancillary
    from tesela.sources.areas import Area
    from tesela.sources.mosaic.job import Mosaic

Progress = Callable[[int, int], None]
StackSource: TypeAlias = Union[str, Path, "xr.DataArray", "xr.Dataset"]
"""Images with dates."""

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


def _ancillary(
    dem: SceneSource | None, layer: Mapping[str, SceneSource] | None, kept: list[Scene]
) -> Ancillary:
    """Layers of a cube; arrays lie in temporary files, which `kept` keeps."""
    from tesela.sources.ancillary import Ancillary

    def file_of(name: str, source: SceneSource) -> str:
        if isinstance(source, str | Path):
            return str(source)
        scene = open_scene(source)
        if len(scene.bands) != 1 or scene.bands[0].index != 1:
            raise InputError(
                f"The layer '{name}' has {len(scene.bands)} bands, or is a later band of a file; give a raster of one."
            )
        kept.append(scene)
        return scene.bands[0].path

    return Ancillary(
        dem=None if dem is None else file_of("dem", dem),
        rasters={name: file_of(name, source) for name, source in (layer or {}).items()},
    )


def mosaic_sentinel_2(
    out: str | Path | None = None,
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
    out : path, optional
        Folder of the mosaics; default: temporary files that go with the answer, and an interrupted call begins anew.
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

    Returns
    -------
    list of Mosaic
        One for each period: `scene`, `to_xarray`, and the figures of gaps and left-out scenes.

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
    place = Place.of(out, "mosaics")
    made = write_mosaics(
        open_catalogue(catalogue),
        _area(area, layer=area_layer, like=like, crs=crs, resolution=resolution),
        place.path,
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
    return [replace(one, held=place.held) for one in made]


def mosaic_modis(
    out: str | Path | None = None,
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
    dem: SceneSource | None = None,
    layer: Mapping[str, SceneSource] | None = None,
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
    out : path, optional
        The cube, a Zarr folder; default: temporary files that go with the answer.
    folder : sequence of paths
        Folders or files, in place of a catalogue; they need neither area nor months.
    first, last : str, optional
        Months, such as "2012-01" and "2013-12".
    quality : sequence of str
        Which observations count, such as "aerosol=1".
    dem : path, DataArray or Scene, optional
        Elevation raster; adds altitude and slope.
    layer : mapping of paths, DataArrays or Scenes, optional
        Further rasters by name, averaged over each cell.

    Raises
    ------
    InputError
        As `write_modis_cube`, and if a catalogue is searched without area or months.
    """
    from tesela.io.http import RetryPolicy
    from tesela.io.sinusoidal import modis_grid
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
    place = Place.of(out, "cube.zarr")
    kept: list[Scene] = []
    cube = write_modis_cube(
        sources,
        place.path,
        grid=None if extent is None else modis_grid(extent.grid),
        months=months,
        climatology=climatology,
        rule=parse_rule(quality),
        merge=merge,  # type: ignore[arg-type]  # checked there
        ancillary=_ancillary(dem, layer, kept),
        memory_bytes=parse_memory_bytes(memory),
        catalogue=where,
        patience=patience,
        cluster=cluster,
        progress=progress,
    )
    return replace(cube, held=place.held)


def mosaic_stack(
    sources: StackSource | Sequence[StackSource],
    out: str | Path | None = None,
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
    dem: SceneSource | None = None,
    layer: Mapping[str, SceneSource] | None = None,
    memory: str | int = "256 MiB",
    cluster: str | None = None,
    progress: Progress = _no_progress,
) -> Cube:
    """
    Make a monthly cube of any images with dates; see `tesela.sources.stack.cube.write_stack_cube`.

    Parameters
    ----------
    sources : path, DataArray or Dataset, or several
        Rasters with dates in their names or in those of their bands; folders; NetCDF; Zarr; arrays with the dimensions
        time, y and x, and perhaps band.
    out : path, optional
        The cube, a Zarr folder; default: temporary files that go with the answer.
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
    from tesela.sources.stack.cube import write_stack_cube
    from tesela.sources.stack.dates import parse_dates
    from tesela.sources.stack.reading import Unit, parse_mask

    need("zarr")
    place = Place.of(out, "cube.zarr")
    kept: list[Scene] = []
    given = [sources] if isinstance(sources, str | Path) or is_array(sources) else sources
    arrays = Held() if any(is_array(item) for item in given) else None
    files: list[str] = []
    for item in given:
        if arrays is not None and is_array(item):
            files += [str(path) for path in write_array(item, arrays.folder)]
        else:
            files.append(str(item))
    cube = write_stack_cube(
        files,
        place.path,
        bands=bands,
        dates=parse_dates(list(dates)),
        period=period,  # type: ignore[arg-type]  # checked there
        climatology=climatology,
        unit=Unit(scale, offset, nodata),
        masks=[parse_mask(text) for text in mask],
        grid=None if like is None else open_grid(like),
        ancillary=_ancillary(dem, layer, kept),
        memory_bytes=parse_memory_bytes(memory),
        cluster=cluster,
        progress=progress,
    )
    return replace(cube, held=place.held)


def mosaic_layer(
    out: str | Path | None = None,
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
) -> Scene:
    """
    Join a static layer, such as elevation or land cover; see `tesela.sources.layers.write_layer_mosaic`.

    Parameters
    ----------
    out : path, optional
        The raster; default: a temporary file that goes with the answer.
    collection, asset : str
        Such as "cop-dem-glo-30" and "data".
    area, area_layer, like, catalogue, crs, resolution, tries, timeout
        As in `mosaic_sentinel_2`.

    Returns
    -------
    Scene
        Of one band; it can be the `dem` or a `layer` of a cube.

    Raises
    ------
    InputError
        As `write_layer_mosaic`.
    """
    from tesela.io.http import RetryPolicy
    from tesela.sources.layers import write_layer_mosaic
    from tesela.sources.providers import open_catalogue

    place = Place.of(out, "layer.tif")
    path = write_layer_mosaic(
        open_catalogue(catalogue),
        _area(area, layer=area_layer, like=like, crs=crs, resolution=resolution),
        place.path,
        collection=collection,
        asset=asset,
        year=year,
        classes=classes,
        nodata=nodata,
        patience=RetryPolicy(tries=tries, timeout_s=timeout),
        progress=progress,
    )
    return replace(open_scene(path), held=place.held)
