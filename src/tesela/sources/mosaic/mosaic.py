"""The cloud-free mosaic of Sentinel-2: from an area, months and a catalogue to images on one grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.units import parse_length_m, parse_memory_bytes
from tesela.io.http import RetryPolicy, Web
from tesela.io.manifest import Manifest, fingerprint
from tesela.io.remote import Rasters
from tesela.sources.areas import Area
from tesela.sources.catalogue import Item, find_items
from tesela.sources.masking import MASKED
from tesela.sources.mosaic.compositing import RULES
from tesela.sources.mosaic.job import Mosaic, MosaicJob, describe_area
from tesela.sources.mosaic.scenes import choose_scenes
from tesela.sources.mosaic.tiles import CompositeOptions
from tesela.sources.periods import Period
from tesela.sources.providers import Catalogue
from tesela.sources.sentinel2.granules import choose_bands


def write_mosaics(
    catalogue: Catalogue,
    area: Area,
    out_dir: str | Path,
    *,
    periods: Sequence[Period],
    bands: str = "all",
    rule: str = "median",
    buffer: str | float = "60 m",
    masked: tuple[int, ...] = MASKED,
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

    Each pixel is made of the observations that the scene classification calls clear there, and that lie further
    than `buffer` from clouds and shadows. Granules of one pass count once; numbers of all processing baselines
    are brought to one scale. Work is done tile by tile; a run that was stopped goes on where it was.

    Parameters
    ----------
    catalogue : Catalogue
        See `find_catalogue`.
    area : Area
        See `make_area`.
    bands : str
        "rgb", "nrg", "all" (the ten of 10 and 20 m) or a list such as "B04,B08".
    rule : {"median", "best", "medoid"}
        Median by band; the pixel far from clouds and near the middle of the period; the pixel most like the others.
    max_cloud : float
        Scenes with more cloud, in per cent, are left out.
    incomplete : {"skip", "refuse"}
        What to do with items that lack a band or the scene classification.
    without : sequence of str
        Names of scenes to leave out.
    memory : str or int
        Budget of the stack of a tile.
    workers : int
        Files read at a time.
    cluster : str, optional
        "local", or the address of a Dask scheduler ("tcp://host:8786") whose workers see the same files and the
        same servers; each makes one tile at a time. The bytes are the same.

    Raises
    ------
    InputError
        If a name is unknown, no scene is found, or a file is broken.
    NetworkError
        If a server cannot be reached, or a scene could not be read after all tries: nothing is left out silently.

    Examples
    --------
    >>> write_mosaics(find_catalogue("earth-search"), make_area("-3.6,36.9,-3.5,37.0"), "mosaics",
    ...               periods=parse_periods("4,7,9", 2018))                      # doctest: +SKIP
    """
    if rule not in RULES:
        raise InputError(unknown_name("rule", rule, RULES))
    if incomplete not in ("skip", "refuse"):
        raise InputError(unknown_name("rule for incomplete items", incomplete, ("skip", "refuse")))
    if workers < 1:
        raise InputError(f"{workers} workers read no file; give 1 or more (--workers).")
    recipe = CompositeOptions(choose_bands(bands), rule, masked, parse_length_m(buffer))
    folder = Path(out_dir)
    started = time.monotonic()
    wanted = collection or (catalogue.provider.sentinel2 if catalogue.provider else None)
    web = catalogue.web(patience)
    found = [_search(catalogue, web, wanted, area, period) for period in periods]
    known = {str(item["id"]) for items in found for item in items}
    unknown = [name for name in without if name not in known]
    if unknown:
        raise InputError(f"No scene is called {join_words(unknown)}; found were {join_words(sorted(known))}.")
    made: list[Mosaic] = []
    with Rasters(web) as rasters:
        for period, items in zip(periods, found, strict=True):
            scenes = choose_scenes(
                items,
                rasters,
                bands=recipe.bands,
                max_cloud=max_cloud,
                incomplete=incomplete,
                without=without,
                workers=workers,
            )
            job = MosaicJob(
                catalogue, area, period, recipe, scenes, folder, parse_memory_bytes(memory), workers
            )
            one = job.run(rasters, cluster=cluster, progress=progress)
            made.append(replace(one, retries=web.retries - sum(other.retries for other in made)))
    settings = {"catalogue": catalogue.address, "area": describe_area(area), **asdict(recipe)}
    outputs = [path for one in made for path in (one.image, one.count, one.item)]
    Manifest(
        step="mosaic",
        settings={**settings, "periods": [one.period for one in made]},
        outputs={path.name: fingerprint(path) for path in outputs},
        seconds=time.monotonic() - started,
    ).write(folder)
    return made


def _search(catalogue: Catalogue, web: Web, collection: str | None, area: Area, period: Period) -> list[Item]:
    items = find_items(
        catalogue, web, collection=collection, bounds=area.bounds, first=period.first, last=period.last
    )
    if not items:
        raise InputError(
            f"{catalogue.address} knows no scene of {period.name} in this area"
            f"{f' (collection {collection})' if collection else ''}. Check the area, the year and the catalogue."
        )
    return items
