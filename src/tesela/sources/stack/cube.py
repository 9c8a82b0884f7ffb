"""Cubes from stacks: images of any sensor with dates become monthly series, block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.grid import crs_text, window_grid
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter, check_target
from tesela.io.parts import PartStore, run_tasks
from tesela.sources.ancillary import Ancillary
from tesela.sources.stack.extent import check_reach, whole_grid
from tesela.sources.stack.planes import Plane, check_once, choose_bands, find_planes
from tesela.sources.stack.reading import MaskRule, PlaneReader, Unit

Period = Literal["month", "image"]
"""What a time of the cube is: the mean of all images of a month, or of a date."""


def write_stack_cube(
    sources: Iterable[str | Path],
    out: str | Path,
    *,
    bands: Sequence[str] | None = None,
    dates: Sequence[str] = (),
    period: Period = "month",
    climatology: bool = False,
    unit: Unit | None = None,
    masks: Sequence[MaskRule] = (),
    grid: GeoBox | None = None,
    ancillary: Ancillary | None = None,
    memory_bytes: int = 256 << 20,
    cluster: str | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Cube:
    """
    Make a cube of any rasters with dates: one file a date, bands with dates, NetCDF, or Zarr.

    A value is the mean of the images of its month that have data there. Images of another grid are averaged over
    larger cells and interpolated in smaller ones; masks apply to their own pixels before.

    Parameters
    ----------
    sources, dates
        As in `find_planes`.
    out : path
        Folder of the cube. A run that was killed continues from its last block.
    bands : sequence of str, optional
        As in `choose_bands`.
    period : {"month", "image"}
        Times of the cube: months, or the dates of the images.
    climatology : bool
        Average equal months of all years into twelve.
    unit : Unit, optional
        Scale, offset and nodata, where the files do not declare them or declare them wrongly.
    masks : sequence of MaskRule
        Pixels to leave out.
    grid : GeoBox, optional
        Cells; default: the pixels of the first image, extended over all images.
    ancillary : Ancillary, optional
        Additional layers; default: longitude and latitude.
    memory_bytes : int
        Memory for the sums, counts and means of a block.
    cluster : str, optional
        "local", or the address of a Dask scheduler whose workers make the blocks; the cube is the same.

    Raises
    ------
    InputError
        If no date or band is found, a file is broken, or a month of a regular series has no image.
    GridError
        If an image has no CRS or lies far from the others, or none reaches the grid.
    """
    check_target(Path(out))
    if period not in ("month", "image"):
        raise InputError(unknown_name("period", period, ("month", "image")))
    names = [rule.band for rule in masks]
    planes = choose_bands(find_planes(sources, dates=dates), bands, masks=names)
    check_once(planes)
    series = [plane for plane in planes if plane.band not in names]
    job = StackJob(
        planes=tuple(replace(plane, address=_absolute(plane.address)) for plane in planes),
        bands=tuple(dict.fromkeys(plane.band for plane in series)),
        times=_times(series, period=period, climatology=climatology),
        period=period,
        unit=unit or Unit(),
        masks=tuple(masks),
    )
    if period == "month":
        _check_months(series)
    with _reader(job) as reader:
        whole = whole_grid(series, reader) if grid is None else grid
        shrinks = reader.shrinks(job.planes[0], whole)
        if grid is not None:
            check_reach(series, reader, grid)
    layers = Ancillary() if ancillary is None else ancillary
    layers.check(whole)
    writer = CubeWriter(
        out,
        whole,
        times=job.times,
        bands=job.bands,
        layers=layers.names,
        notes=_notes(job, series),
    )
    side = _block_side(job, memory_bytes, writer.chunk_px)
    windows = [
        (row, col, min(side, int(whole.shape[0]) - row), min(side, int(whole.shape[1]) - col))
        for row in range(0, int(whole.shape[0]), side)
        for col in range(0, int(whole.shape[1]), side)
    ]
    blocks = [StackBlock(at, window_grid(whole, *window), shrinks) for at, window in enumerate(windows)]
    with PartStore(out) as store:
        store.start({**_plan(job, whole), "blocks": [len(blocks), side], "layers": list(layers.names)})
        _make(job, blocks, store, cluster=cluster, progress=progress)
        with writer:
            for number, (row, col, rows, cols) in enumerate(windows):
                writer.write(row, col, *_unpack(store.read(number), (len(job.times), len(job.bands))))
                if layers.names:
                    writer.write_layers(row, col, layers.read(window_grid(whole, row, col, rows, cols)))
        store.remove()
    return open_cube(out)


@dataclass(frozen=True)
class StackJob:
    """What all blocks share."""

    planes: tuple[Plane, ...]
    bands: tuple[str, ...]
    times: tuple[str, ...]
    period: Period
    unit: Unit
    masks: tuple[MaskRule, ...]


@dataclass(frozen=True)
class StackBlock:
    """One block: its number, its cells, and whether they average several pixels."""

    number: int
    grid: GeoBox
    shrinks: bool


def make_block(
    job: StackJob, reader: PlaneReader, block: StackBlock
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Means and numbers of images, (times, bands, rows, cols) each; NaN where there is none."""
    shape = (len(job.bands), int(block.grid.shape[0]), int(block.grid.shape[1]))
    values = np.full((len(job.times), *shape), np.nan, np.float32)
    counts = np.zeros((len(job.times), *shape), np.uint8)
    masks = {rule.band for rule in job.masks}
    for number, time in enumerate(job.times):
        sums, seen = np.zeros(shape), np.zeros(shape, np.int32)
        for plane in job.planes:
            if plane.band in masks or _time_of(plane.date, job) != time:
                continue
            read = reader.read(plane, block.grid, shrinks=block.shrinks)
            known = np.isfinite(read)
            band = job.bands.index(plane.band)
            sums[band][known] += read[known]
            seen[band] += known
        np.divide(sums, seen, out=values[number], where=seen > 0, casting="same_kind")
        counts[number] = np.minimum(seen, 255)
    return values, counts


def _make(
    job: StackJob,
    blocks: Sequence[StackBlock],
    store: PartStore,
    *,
    cluster: str | None,
    progress: Callable[[int, int], None],
) -> None:
    """Make the missing blocks, here or on a cluster."""
    left = [block for block in blocks if not store.has(block.number)]
    done = len(blocks) - len(left)
    progress(done, len(blocks))

    def advance(_: int) -> None:
        nonlocal done
        done += 1
        progress(done, len(blocks))

    if cluster is not None and left:
        run_tasks(cluster, left, partial(_on_worker, job=job), store=store, advance=advance)
        return
    with _reader(job) as reader:
        for block in left:
            store.write(block.number, _pack(*make_block(job, reader, block)))
            advance(block.number)


def _on_worker(block: StackBlock, store: PartStore, *, job: StackJob) -> None:
    """Make one block on a worker; see `run_tasks`."""
    store.write(block.number, _pack(*make_block(job, _cached_reader(job), block)))


def _reader(job: StackJob) -> PlaneReader:
    return PlaneReader(job.planes, job.unit, job.masks)


@lru_cache(maxsize=1)
def _cached_reader(job: StackJob) -> PlaneReader:
    """The open files of a worker process."""
    return _reader(job)


def _times(planes: Sequence[Plane], *, period: Period, climatology: bool) -> tuple[str, ...]:
    if climatology:
        return tuple(f"{month:02d}" for month in range(1, 13))
    dates = {plane.date for plane in planes}
    if period == "image":
        return tuple(sorted(dates))
    if any(len(date) == 2 for date in dates):
        return tuple(sorted(date if len(date) == 2 else date[:7] for date in dates))
    months = sorted(int(date[:4]) * 12 + int(date[5:7]) - 1 for date in dates)
    return tuple(f"{at // 12:04d}-{at % 12 + 1:02d}" for at in range(months[0], months[-1] + 1))


def _check_months(planes: Sequence[Plane]) -> None:
    """
    Check that no month lacks its image in a regular series, in which all others have equally many.

    Raises
    ------
    InputError
        If a month does: its file has vanished. In series with other numbers of images a month without one is a gap.
    """
    months = {plane.date[:7] for plane in planes}
    if len({len(month) for month in months}) > 1:
        return
    numbers = sorted(_month_number(month) for month in months)
    for band in dict.fromkeys(plane.band for plane in planes):
        images = Counter(_month_number(plane.date[:7]) for plane in planes if plane.band == band)
        lacking = [at for at in range(numbers[0], numbers[-1] + 1) if at not in images]
        if not lacking or len(images) <= max(2, len(lacking)) or len(set(images.values())) > 1:
            continue
        whole = len(next(iter(months))) > 2
        named = join_words(_month_name(at, whole=whole) for at in lacking)
        first, each = _month_name(min(images), whole=whole), next(iter(images.values()))
        raise InputError(
            f"Band '{band}' has no image of {named}, but {each} of each other month from {first} on: a file is "
            f"missing. Restore it, or take the dates as they are (--period image)."
        )


def _month_number(month: str) -> int:
    return int(month) - 1 if len(month) == 2 else int(month[:4]) * 12 + int(month[5:7]) - 1


def _month_name(number: int, *, whole: bool) -> str:
    return f"{number // 12:04d}-{number % 12 + 1:02d}" if whole else f"{number + 1:02d}"


def _time_of(date: str, job: StackJob) -> str:
    """Time of the cube to which an image of a date belongs."""
    if len(job.times[0]) == 2:
        return date[5:7] or date
    return date if job.period == "image" else date[:7]


def _block_side(job: StackJob, memory_bytes: int, chunk_px: int) -> int:
    """Side of the blocks: whole chunks of the cube whose values fit in the memory."""
    per_pixel = len(job.times) * len(job.bands) * (4 + 1 + 5) + len(job.bands) * 24 + 64
    side = chunk_px
    while (2 * side) ** 2 * per_pixel <= memory_bytes and side < 4096:
        side *= 2
    return side


def _pack(values: NDArray[np.float32], counts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Values and counts as one array of bytes, (times x bands, rows, 5 x cols)."""
    plain = np.ascontiguousarray(values.astype("<f4")).view(np.uint8)
    packed = np.concatenate([plain, counts], axis=-1)
    return packed.reshape(-1, *packed.shape[2:])


def _unpack(part: NDArray[np.uint8], lead: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    whole = part.reshape(*lead, *part.shape[1:])
    cols = whole.shape[-1] // 5
    values = np.ascontiguousarray(whole[..., : 4 * cols]).view("<f4")
    return values.astype(np.float32, copy=False), whole[..., 4 * cols :]


def _notes(job: StackJob, planes: Sequence[Plane]) -> dict[str, object]:
    dates = sorted(plane.date for plane in planes)
    return {
        "source": join_words(sorted({Path(plane.address).name for plane in planes})[:3]),
        "images": len({(plane.address, plane.date) for plane in planes}),
        "months": [dates[0][:7], dates[-1][:7]],
        "period": job.period,
        "masks": [asdict(rule) for rule in job.masks],
        "unit": asdict(job.unit),
    }


def _plan(job: StackJob, grid: GeoBox) -> dict[str, object]:
    """Inputs of the blocks; files are compared by name."""
    return {
        "planes": [list(asdict(plane).values()) for plane in job.planes],
        "times": list(job.times),
        "bands": list(job.bands),
        "masks": [asdict(rule) for rule in job.masks],
        "unit": asdict(job.unit),
        "grid": [*(int(side) for side in grid.shape), *list(grid.affine)[:6], crs_text(grid)],
    }


def _absolute(address: str) -> str:
    """Absolute path of a file: workers run in other folders; names of subdatasets stay as they are."""
    path = Path(address)
    return str(path.resolve()) if path.exists() else address
