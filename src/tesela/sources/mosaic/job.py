"""One mosaic: its plan, its tiles kept as parts, its files."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tesela.core.grid import crs_text, windows
from tesela.core.publication import Publication
from tesela.core.scene import Scene
from tesela.io.array_views import raster_array
from tesela.io.images import NOT_COUNTED, CountWriter, MosaicWriter
from tesela.io.manifest import write_text
from tesela.io.parts import PartStore, remove_left_over
from tesela.io.remote import Rasters
from tesela.io.scenes import open_scene
from tesela.io.stac_items import raster_item
from tesela.sources.areas import Area
from tesela.sources.mosaic.compositing import CompositeOptions, tile_side
from tesela.sources.mosaic.parts import MosaicTile, TilePlan, run_on_cluster, unpack
from tesela.sources.mosaic.scenes import Scenes
from tesela.sources.periods import Period
from tesela.sources.providers import Catalogue
from tesela.sources.sensor import RejectedScene, Sensor

if TYPE_CHECKING:
    import xarray as xr

_FORMAT = 1
"""Version of the method: raise it when the same scenes give other pixels."""

_TILES_AT_ONCE = 2
"""One is read while the other is composed; they share the memory."""


@dataclass(frozen=True)
class Mosaic:
    """One finished mosaic."""

    period: str
    image: Path
    """uint16 reflectance x 10000, bands named, 0 nodata."""
    count: Path
    """uint8 count of valid observations; 0 is a gap, 255 outside the area."""
    item: Path
    """STAC Item that names the scenes."""
    pixels: int
    """Of the area."""
    gaps: int
    """Of these, without any clear view: nodata in the image."""
    mean_count: float
    observations: int
    scenes: int
    left_out: tuple[RejectedScene, ...]
    notes: tuple[str, ...]
    resumed: int
    """Tiles kept from an earlier run; all of them if the mosaic was complete."""
    tiles: int
    retries: int
    """Requests that this process repeated, also of the search; without those of the workers of a cluster."""
    seconds: float
    held: object = field(default=None, repr=False, compare=False)
    """What keeps the temporary files of a mosaic that was given no path; see `tesela.io.held`."""

    @property
    def scene(self) -> Scene:
        """The image as a scene, which labels, training and maps take."""
        return replace(open_scene(self.image), held=self.held)

    def to_xarray(self, *, lazy: bool | None = None) -> xr.DataArray:
        """
        The image as a DataArray, (band, y, x) uint16 with the scale of reflectance among its attributes.

        Parameters
        ----------
        lazy : bool, optional
            Whether it is read by Dask when it is computed; default: where it is over 256 MiB.
        """
        scene = open_scene(self.image)
        names = scene.band_names
        return raster_array(
            str(self.image), scene.grid, name="mosaic", names=names, held=self.held, lazy=lazy
        )

    def to_dict(self) -> dict[str, object]:
        """For the command line's JSON."""
        document = {name: value for name, value in vars(self).items() if name != "held"}
        return document | {
            "image": str(self.image),
            "count": str(self.count),
            "item": str(self.item),
            "left_out": [asdict(scene) for scene in self.left_out],
        }


@dataclass(frozen=True, eq=False)
class MosaicJob:
    """One mosaic, made tile by tile."""

    sensor: Sensor
    catalogue: Catalogue
    area: Area
    period: Period
    options: CompositeOptions
    scenes: Scenes
    folder: Path
    memory_bytes: int
    workers: int

    def run(
        self, rasters: Rasters, *, cluster: str | None = None, progress: Callable[[int, int], None]
    ) -> Mosaic:
        """Make the mosaic unless its files are complete; errors as `write_mosaics`."""
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        plan = self._plan()
        corners = list(windows(self.area.grid, self.side_px))
        tiles = [MosaicTile(number, window) for number, (_, _, window) in enumerate(corners)]
        done = self._finished(plan)
        kept = len(tiles)
        if done is None:
            with PartStore(self.image) as store:
                store.start(plan)
                kept = sum(store.has(tile.number) for tile in tiles)
                self._compose(store, tiles, rasters, cluster=cluster, progress=progress)
                done = self._assemble(store, [(row, col) for row, col, _ in corners])
                self._write_item(plan, done)
                store.remove()
        else:
            for file in (self.image, self.count, self.item):
                remove_left_over(file)
        return Mosaic(
            period=self.period.name,
            image=self.image,
            count=self.count,
            item=self.item,
            pixels=int(done["pixels"]),
            gaps=int(done["gaps"]),
            mean_count=float(done["mean_count"]),
            observations=len(self.scenes.observations),
            scenes=len(self.scenes.granules),
            left_out=self.scenes.left_out,
            notes=self.scenes.notes,
            resumed=kept,
            tiles=len(tiles),
            retries=0,
            seconds=round(time.monotonic() - started, 2),
        )

    @property
    def side_px(self) -> int:
        """Side of the tiles."""
        return tile_side(
            self.memory_bytes // _TILES_AT_ONCE,
            observations=len(self.scenes.observations),
            bands=len(self.options.bands),
        )

    @property
    def image(self) -> Path:
        """File of the mosaic."""
        return self.folder / f"{self.period.name}.tif"

    @property
    def count(self) -> Path:
        """File of the counts."""
        return self.folder / f"{self.period.name}_count.tif"

    @property
    def item(self) -> Path:
        """File of the STAC Item."""
        return self.folder / f"{self.period.name}.json"

    def _plan(self) -> dict[str, object]:
        """Everything that the pixels depend on."""
        plan: dict[str, object] = json.loads(
            json.dumps(
                {
                    "format": _FORMAT,
                    "area": describe_area(self.area),
                    "period": self.period.name,
                    **asdict(self.options),
                    "scenes": [[one.name, one.offset] for one in self.scenes.granules],
                    "tile_px": self.side_px,
                }
            )
        )
        return plan

    def _finished(self, plan: Mapping[str, object]) -> Mapping[str, float] | None:
        """Figures of the mosaic if its files are complete and of this plan."""
        if not (self.image.exists() and self.count.exists()):
            return None
        try:
            properties = json.loads(self.item.read_text(encoding="utf-8"))["properties"]
            if properties["tesela:work"] != _digest(plan):
                return None
            figures: Mapping[str, float] = properties["tesela:figures"]
            return figures
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _compose(
        self,
        store: PartStore,
        tiles: Sequence[MosaicTile],
        rasters: Rasters,
        *,
        cluster: str | None,
        progress: Callable[[int, int], None],
    ) -> None:
        """Make the missing tiles."""
        waiting = [tile for tile in tiles if not store.has(tile.number)]
        kept = len(tiles) - len(waiting)
        finished = count(kept + 1)

        def advance(_: int) -> None:
            progress(next(finished), len(tiles))

        progress(kept, len(tiles))
        plan = TilePlan(self.sensor, self.area, self.period, self.options, self.scenes.observations)
        if cluster is not None:
            run_on_cluster(
                cluster,
                plan,
                waiting,
                store,
                catalogue=self.catalogue,
                patience=rasters.web.patience,
                workers=self.workers,
                advance=advance,
            )
            return
        with ThreadPoolExecutor(self.workers) as pool, ThreadPoolExecutor(_TILES_AT_ONCE) as hands:

            def make(tile: MosaicTile) -> int:
                store.write(tile.number, plan.make(tile.window, rasters, pool))
                return tile.number

            try:
                for number in hands.map(make, waiting):
                    advance(number)
            except BaseException:
                for executor in (hands, pool):
                    executor.shutdown(wait=False, cancel_futures=True)
                raise

    def _assemble(self, store: PartStore, corners: Sequence[tuple[int, int]]) -> dict[str, float]:
        """Write both rasters from the tiles, and count."""
        pixels = gaps = total = 0
        middle = (self.period.first + (self.period.last - self.period.first) / 2).isoformat()
        image = MosaicWriter(self.image, self.area.grid, names=self.options.bands, date=middle)
        with image, CountWriter(self.count, self.area.grid) as counts:
            for number, (row, col) in enumerate(corners):
                values, views = unpack(store.read(number))
                image.write(row, col, values)
                counts.write(row, col, views)
                inside = views != NOT_COUNTED
                pixels += int(inside.sum())
                gaps += int((views == 0).sum())
                total += int(views[inside].sum(dtype=np.int64))
        return {"pixels": pixels, "gaps": gaps, "mean_count": round(total / pixels, 3) if pixels else 0.0}

    def _write_item(self, plan: Mapping[str, object], figures: Mapping[str, float]) -> None:
        period, options, spec = self.period, self.options, self.sensor.spec
        publication = Publication(
            f"{spec.title} mosaic {period.name}",
            date=f"{period.first.isoformat()}/{period.last.isoformat()}",
            description=f"{options.rule.capitalize()} of the clear observations of {period.name}, reflectance x 10000. "
            f"{spec.credit}",
            keywords=(spec.title, "mosaic"),
        )
        item = raster_item(self.image, publication, beside=[self.count])
        properties = item["properties"]
        assert isinstance(properties, dict)
        properties |= {
            "tesela:rule": options.rule,
            "tesela:masked_classes": list(options.masked),
            "tesela:buffer_m": options.buffer_m,
            "tesela:figures": dict(figures),
            "tesela:scenes": [
                {"id": one.name, "datetime": one.moment.isoformat(), "offset": one.offset}
                for one in self.scenes.granules
            ],
            "tesela:left_out": [asdict(one) for one in self.scenes.left_out],
            "tesela:notes": list(self.scenes.notes),
            "tesela:work": _digest(plan),
        }
        item["links"] = [
            {"rel": "derived_from", "href": one.link, "type": "application/geo+json"}
            for one in self.scenes.granules
            if one.link
        ]
        write_text(self.item, json.dumps(item, indent=2, ensure_ascii=False) + "\n")


def describe_area(area: Area) -> dict[str, object]:
    """Grid and outline of an area, as text."""
    import shapely

    outline = "" if area.outline is None else hashlib.sha256(shapely.to_wkb(area.outline)).hexdigest()[:16]
    return {
        "shape": [int(side) for side in area.grid.shape],
        "transform": [float(number) for number in area.grid.affine[:6]],
        "crs": crs_text(area.grid),
        "outline": outline,
    }


def _digest(plan: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:32]
