"""
Mosaics of real Sentinel-2 series with real clouds, held against clear dates that they have not seen.

    .venv/bin/python benchmarks/real_mosaic.py [--picture docs/images/mosaic.png]

Each series becomes a folder of STAC items and files in the layout of Earth Search, and goes through `write_mosaics` as
a user's would. For each period: scenes, share never seen clear, mean count of clear views. For each date of the period
on which at least 95 % of the ground counts as clear: the mosaic of all other dates against it, as root mean square
difference over the clear pixels, for the three rules, for the median without any mask, and for the one clear date that
lies nearest in time; of these dates the median. All in reflectance x 10000, or NDVI x 1000.

- flanders: WorldCereal's field, level 2A with scene classification, 64 x 64 px, 118 dates; red.
- slovenia: eo-learn's patch, level 1C, 100 x 100 px, 68 dates as NDVI and five as bands; clouds by s2cloudless. NDVI
  stands in the place of a band as (NDVI + 1) x 5000, for numbers of bands are never negative.
- terramind: three crops of level 2A, one date each and no masks; all that can be said is that numbers pass unchanged.

Needs the real imagery (TESELA_DATA or ../shared/data).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from tesela.simulate.server.catalogue import Acquisition, write_acquisition
from tesela.sources.areas import Area
from tesela.sources.mosaic.compositing import cloud_distance, is_clear
from tesela.sources.mosaic.job import Mosaic
from tesela.sources.mosaic.mosaic import write_mosaics
from tesela.sources.periods import Period, parse_periods
from tesela.sources.providers import open_catalogue
from tesela.sources.sentinel2.sensor import SPEC

SITE = "00002806639B424A"
FILE = "S2_L2A_{metres}m_" + SITE + "_32631_2017-08-01_2018-11-30.nc"
FLANDERS = GeoBox((64, 64), Affine(10, 0, 501_360, 0, -10, 5_629_680), "EPSG:32631")
SLOVENIA = GeoBox((100, 100), Affine(9.995, 0, 465_181.05, 0, -9.997, 5_080_254.63), "EPSG:32633")
START = datetime(2017, 8, 4, 10, 53, 28, tzinfo=UTC)
BUFFER_M = 40.0
CLEAR_SHARE = 0.95
RUNS = {
    "median": {"rule": "median"},
    "medoid": {"rule": "medoid"},
    "best": {"rule": "best"},
    "median without mask": {"rule": "median", "masked": (0,), "buffer": 0},
}


@dataclass(frozen=True, eq=False)
class Series:
    """Dates of one place."""

    bands: tuple[str, ...]
    values: np.ndarray
    """(dates, bands, rows, cols) numbers; the first band is the one that is judged."""
    scl: np.ndarray
    """(dates, rows, cols) scene classes."""
    moments: list[datetime]
    grid: GeoBox
    tile: str
    unit: float = 1.0
    """What one number means in the figures printed."""

    def dates(self, period: Period) -> list[int]:
        """Which dates lie in a period."""
        return [n for n, moment in enumerate(self.moments) if period.first <= moment.date() <= period.last]

    def clear(self, number: int) -> np.ndarray:
        """Which pixels of a date are clear."""
        scl = self.scl[number]
        distance = cloud_distance(scl, cloudy=SPEC.cloudy, pixel_m=10, most_m=BUFFER_M + 10)
        return is_clear(scl, distance, masked=SPEC.masked, buffer_m=BUFFER_M)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    home = Path(os.environ.get("TESELA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    flanders = read_flanders(home / "worldcereal_s2_ts" / SITE)
    ndvi, bands = read_slovenia(home / "eolearn_s2_slovenia")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        found = {
            "flanders, red": judge(work / "a", flanders, parse_periods("4,7,9", 2018)),
            "slovenia, NDVI": judge(work / "b", ndvi, parse_periods("3-5,6-8,9-11", 2017)),
            "slovenia, red": judge(work / "c", bands, parse_periods("7-9", 2015)),
            "terramind, numbers that change": pass_through(work / "d", home / "terramind_s2_lulc" / "S2L2A"),
        }
        print(json.dumps(found, indent=2))
        if options.picture:
            draw(options.picture, work, flanders, ndvi)


def read_flanders(folder: Path) -> Series:
    bands = ("B04", "B03", "B02", "B08")
    layers = []
    for band in bands:
        with rasterio.open(f"netcdf:{folder / FILE.format(metres=10)}:{band}") as data:
            layers.append(data.read())
            seconds = data.tags()["NETCDF_DIM_timestamp_VALUES"].strip("{}").split(",")
    with rasterio.open(f"netcdf:{folder / FILE.format(metres=20)}:SCL") as data:
        scl = data.read().repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
    moments = [START + timedelta(seconds=int(text)) for text in seconds]
    return Series(bands, np.stack(layers, axis=1), scl, moments, FLANDERS, "31UDS")


def read_slovenia(folder: Path) -> tuple[Series, Series]:
    """Its 68 dates of NDVI, and the five that have all bands."""
    patch = folder / "TestEOPatch"
    moments = [
        datetime.fromisoformat(f"{text}+00:00")
        for text in json.loads((patch / "timestamps.json").read_text())
    ]
    cloudy = np.load(patch / "mask" / "CLM.npy")[:, :100, :100, 0] > 0
    blocks = cloudy.reshape(-1, 50, 2, 50, 2).any(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)
    scl = np.where(blocks, 9, 4).astype(
        np.uint8
    )  # classes come in 20 m: a cell is cloudy where any of its pixels is
    index = np.load(patch / "data" / "NDVI.npy")[:, :100, :100, 0]
    shifted = np.rint((index + 1) * 5000).astype(np.uint16)[:, np.newaxis]
    ndvi = Series(("B08",), shifted, scl, moments, SLOVENIA, "33TVM", unit=0.2)
    names, layers, numbers = ("B04", "B03", "B02"), [], []
    for path in sorted((folder / "derived_geotiff").glob("S2_L1C_*.tif")):
        numbers.append(next(n for n, one in enumerate(moments) if path.stem.endswith(f"{one:%Y-%m-%d}")))
        with rasterio.open(path) as data:
            read = data.read([data.descriptions.index(name) + 1 for name in names])
        layers.append(np.rint(read[:, :100, :100] * 10_000).astype(np.uint16))
    dates = [moments[n] for n in numbers]
    return ndvi, Series(names, np.stack(layers), scl[numbers], dates, SLOVENIA, "33TVM")


def judge(folder: Path, series: Series, periods: tuple[Period, ...]) -> list[dict[str, object]]:
    """Write the items, compose each period, and hold mosaics against clear dates that they lack."""
    names = {}
    for period in periods:
        for number in series.dates(period):
            bands = dict(zip(series.bands, series.values[number], strict=True))
            seen = Acquisition(
                bands, series.scl[number], series.grid, series.moments[number], tile=series.tile
            )
            names[number] = write_acquisition(folder / "items", seen, layout="earth-search")["id"]
    found = []
    for period in periods:
        whole = compose(folder / "whole", series, period)
        compose(folder / "unmasked", series, period, **RUNS["median without mask"])
        dates = series.dates(period)
        held = [n for n in dates if series.clear(n).mean() >= CLEAR_SHARE]
        errors: dict[str, list[float]] = {name: [] for name in (*RUNS, "nearest clear date")}
        for number in held if len(held) > 1 else []:
            for name, options in RUNS.items():
                made = compose(
                    folder / f"{name}-{number}", series, period, without=(names[number],), **options
                )
                errors[name].append(difference(read(made.image)[0], series, number))
            nearest = min(
                (n for n in held if n != number),
                key=lambda n: abs(series.moments[n] - series.moments[number]),
            )
            errors["nearest clear date"].append(difference(series.values[nearest, 0], series, number))
        found.append(
            {
                "period": period.name,
                "dates": whole.scenes,
                "gaps": f"{whole.gaps / whole.pixels:.2%}",
                "mean_views": whole.mean_count,
                "dates_held_out": len(held) if len(held) > 1 else 0,
                "rms_difference": {
                    name: round(float(np.median(each)), 1) for name, each in errors.items() if each
                },
            }
        )
    return found


def compose(folder: Path, series: Series, period: Period, **options: object) -> Mosaic:
    settings: dict[str, object] = {"bands": ",".join(series.bands), "buffer": BUFFER_M, **options}
    where = open_catalogue(str(folder.parent / "items"))
    return write_mosaics(where, Area(series.grid), folder, periods=[period], **settings)[0]  # type: ignore[arg-type]


def difference(mosaic: np.ndarray, series: Series, number: int) -> float:
    """Root mean square over the pixels that the mosaic has and that are clear on a date."""
    both = series.clear(number) & (mosaic > 0)
    gap = mosaic[both].astype(float) - series.values[number, 0][both]
    return float(np.sqrt((gap**2).mean())) * series.unit


def pass_through(folder: Path, crops: Path) -> dict[str, float]:
    """Share of the numbers of the 10 m bands that differ after a mosaic of the one date."""
    bands, changed = ("B02", "B03", "B04", "B08"), {}
    for path in sorted(crops.glob("*.tif")):
        with rasterio.open(path) as data:
            values = data.read([2, 3, 4, 8]).clip(0).astype(np.uint16)
            grid = GeoBox(data.shape, data.transform, data.crs)
        scl = np.full(grid.shape, 4, np.uint8)
        moment = datetime(2018, 7, 1, 10, 0, tzinfo=UTC)
        series = Series(bands, values[np.newaxis], scl[np.newaxis], [moment], grid, "30SVF")
        seen = Acquisition(dict(zip(bands, values, strict=True)), scl, grid, moment)
        write_acquisition(folder / path.stem / "items", seen, layout="earth-search")
        made = compose(folder / path.stem / "out", series, parse_periods("7", 2018)[0])
        changed[path.stem] = float((read(made.image) != values).mean())
    return changed


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as data:
        return data.read()


def draw(path: Path, work: Path, flanders: Series, ndvi: Series) -> None:
    """Two places in two rows: dates with what is masked in grey, the median without and with the mask, the views."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    def natural(values: np.ndarray) -> np.ndarray:
        return np.clip(values[:3].transpose(1, 2, 0) / 2200, 0, 1) ** 0.8

    greens = LinearSegmentedColormap.from_list(
        "ndvi", ["#f4ead2", "#d9c98f", "#7fae5a", "#1c6b3a", "#0a3d24"]
    )

    def index(values: np.ndarray) -> np.ndarray:
        return greens(np.clip((values[0] / 5000 - 1) / 0.9, 0, 1))[..., :3]

    rows = [
        (flanders, natural, "2018-04", work / "a", ("04-14", "04-16", "04-19", "04-26")),
        (ndvi, index, "2017-06to08", work / "b", ("07-05", "07-15", "07-25", "07-30")),
    ]
    figure, axes = plt.subplots(2, 7, figsize=(13.2, 4.3), layout="constrained")
    for (series, paint, name, folder, days), line in zip(rows, axes, strict=True):
        panels = []
        for day in days:
            number = next(
                n for n, one in enumerate(series.moments) if f"{one:%Y-%m-%d}" == f"{name[:4]}-{day}"
            )
            panels.append(
                (f"{series.moments[number]:%-d %B %Y}", paint(series.values[number]), ~series.clear(number))
            )
        panels.append(("median, no mask", paint(read(folder / "unmasked" / f"{name}.tif")), None))
        panels.append(("median of clear views", paint(read(folder / "whole" / f"{name}.tif")), None))
        for axis, (title, picture, hidden) in zip(line[:6], panels, strict=True):
            axis.imshow(picture, interpolation="nearest")
            if hidden is not None and hidden.any():
                veil = np.zeros((*hidden.shape, 4))
                veil[hidden] = (0.75, 0.15, 0.45, 0.45)
                axis.imshow(veil, interpolation="nearest")
            axis.set_title(title, fontsize=9)
        views = read(folder / "whole" / f"{name}_count.tif")[0]
        shown = line[6].imshow(views, cmap="cividis", vmin=0, interpolation="nearest")
        line[6].set_title("clear views", fontsize=9)
        figure.colorbar(shown, ax=line[6], shrink=0.8, ticks=range(0, int(views.max()) + 1, 2))
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=85)


if __name__ == "__main__":
    main()
