"""Cloud-free mosaics: from an area, months and a catalogue to images on one grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.units import parse_length_m, parse_memory_bytes
from tesela.io.fingerprints import fingerprint
from tesela.io.http import RetryPolicy, Web
from tesela.io.manifest import Manifest
from tesela.io.remote import Rasters
from tesela.sources.areas import Area
from tesela.sources.catalogue import Item, find_items
from tesela.sources.mosaic.compositing import RULES, CompositeOptions
from tesela.sources.mosaic.job import Mosaic, MosaicJob, describe_area
from tesela.sources.mosaic.scenes import choose_scenes
from tesela.sources.periods import Period
from tesela.sources.providers import Catalogue
from tesela.sources.sensor import Sensor, choose_bands, parse_masked
from tesela.sources.sensor_registry import DEFAULT_SENSOR, find_sensor


def write_mosaics(
    catalogue: Catalogue,
    area: Area,
    out_dir: str | Path,
    *,
    periods: Sequence[Period],
    sensor: str | Sensor = DEFAULT_SENSOR,
    bands: str = "all",
    rule: str = "median",
    buffer: str | float = "60 m",
    masked: str | tuple[int, ...] | None = None,
    max_cloud: float = 100.0,
    incomplete: str = "skip",
    without: Sequence[str] = (),
    collection: str | None = None,
    memory: str | int = "512 MiB",
    workers: int = 8,
    patience: RetryPolicy | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Mosaic]:
    """
    Make a cloud-free mosaic of each period, as ``NAME.tif``, ``NAME_count.tif`` and ``NAME.json`` in a folder.

    A pixel is composed of the observations that the sensor's mask calls clear and that are farther than `buffer`
    from clouds and shadows. Granules of one pass count once; numbers of all processing versions are brought to one
    scale. The mosaic is made tile by tile; a run that was stopped continues from its last tile.

    Parameters
    ----------
    catalogue : Catalogue
        See `open_catalogue`.
    area : Area
        See `make_area`.
    sensor : str or Sensor
        A name ("sentinel-2"), or any other implementation of `tesela.sources.sensor.Sensor`.
    bands : str
        A band set of the sensor, of Sentinel-2 "rgb", "nrg" or "all" (the ten of 10 and 20 m), or a list such as
        "B04,B08".
    rule : {"median", "best", "medoid"}
        Median by band; the pixel far from clouds and near the middle of the period; the pixel most like the others.
    masked : str or tuple of int, optional
        Classes of the mask that are left out, "0,1,2,3,8,9,10"; default: those of the sensor.
    max_cloud : float
        Scenes with more cloud, in per cent, are left out.
    incomplete : {"skip", "refuse"}
        What to do with items that lack a band or the mask band.
    without : sequence of str
        Names of scenes to leave out.
    memory : str or int
        Limit for the stack of a tile.
    workers : int
        Files read at a time.
    cluster : str, optional
        "local", or the address of a Dask scheduler ("tcp://host:8786") whose workers see the same files and the
        same servers; each makes one tile at a time. The result is the same.

    Raises
    ------
    InputError
        If a name is unknown, the catalogue has no scene, or a file is broken.
    NetworkError
        If a server cannot be reached, or a scene cannot be read after all tries: no scene is left out silently.

    Examples
    --------
    >>> write_mosaics(open_catalogue("earth-search"), make_area("-3.6,36.9,-3.5,37.0"), "mosaics",
    ...               periods=parse_periods("4,7,9", 2018))                      # doctest: +SKIP
    """
    if rule not in RULES:
        raise InputError(unknown_name("rule", rule, RULES))
    if incomplete not in ("skip", "refuse"):
        raise InputError(unknown_name("rule for incomplete items", incomplete, ("skip", "refuse")))
    if workers < 1:
        raise InputError(f"{workers} workers read no file; give 1 or more (--workers).")
    sensor = find_sensor(sensor)
    spec = sensor.spec
    early = [period.year for period in periods if period.year < spec.first_year]
    if early:
        raise InputError(f"Year {early[0]}: {spec.title} has images since {spec.first_year}.")
    masked = parse_masked(masked, spec) if isinstance(masked, str) else masked or spec.masked
    options = CompositeOptions(choose_bands(bands, spec), rule, masked, parse_length_m(buffer))
    folder = Path(out_dir)
    started = time.monotonic()
    collection = collection or catalogue.collection(spec.collections)
    web = catalogue.web(patience)
    items_of = [_search(catalogue, web, sensor, collection, area, period) for period in periods]
    names = {str(item["id"]) for items in items_of for item in items}
    unknown = [name for name in without if name not in names]
    if unknown:
        raise InputError(f"No scene is called {join_words(unknown)}; there are {join_words(sorted(names))}.")
    made: list[Mosaic] = []
    with Rasters(web) as rasters:
        for period, items in zip(periods, items_of, strict=True):
            scenes = choose_scenes(
                items,
                rasters,
                sensor=sensor,
                bands=options.bands,
                max_cloud=max_cloud,
                incomplete=incomplete,
                without=without,
                workers=workers,
            )
            job = MosaicJob(
                sensor, catalogue, area, period, options, scenes, folder, parse_memory_bytes(memory), workers
            )
            one = job.run(rasters, cluster=cluster, progress=progress)
            made.append(replace(one, retries=web.retries - sum(other.retries for other in made)))
    settings = {"catalogue": catalogue.address, "area": describe_area(area), **asdict(options)}
    outputs = [path for one in made for path in (one.image, one.count, one.item)]
    Manifest(
        step="mosaic",
        settings={**settings, "periods": [one.period for one in made]},
        outputs={path.name: fingerprint(path) for path in outputs},
        seconds=time.monotonic() - started,
    ).write(folder)
    return made


def _search(
    catalogue: Catalogue, web: Web, sensor: Sensor, collection: str | None, area: Area, period: Period
) -> list[Item]:
    items = find_items(
        catalogue,
        web,
        collection=collection,
        bounds=area.bounds,
        first=period.first,
        last=period.last,
        products=sensor.product_items,
    )
    if not items:
        raise InputError(
            f"{catalogue.address} has no scene of {period.name} in this area"
            f"{f' (collection {collection})' if collection else ''}. Check the area, the year and the catalogue."
        )
    return items
