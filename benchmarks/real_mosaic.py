"""
Mosaics of a real Sentinel-2 series with real clouds: WorldCereal's field in Flanders, 64 x 64 px, 118 dates.

    .venv/bin/python benchmarks/real_mosaic.py [--picture docs/images/mosaic.png]

Writes the dates of April, July and September 2018 as a folder of STAC items, runs the three rules on it, and prints by
month how many scenes there are, the share never seen clear, the mean count of clear views, and the spread of red. Needs
the real imagery (TESELA_DATA or ../shared/data).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from tesela.simulate.catalogue import Acquisition, write_acquisition
from tesela.sources.areas import Area
from tesela.sources.mosaic import write_mosaics
from tesela.sources.periods import parse_periods
from tesela.sources.providers import find_catalogue

SITE = "00002806639B424A"
FILE = "S2_L2A_{metres}m_" + SITE + "_32631_2017-08-01_2018-11-30.nc"
GRID = GeoBox((64, 64), Affine(10, 0, 501_360, 0, -10, 5_629_680), "EPSG:32631")
BANDS = ("B04", "B03", "B02", "B08")
START = datetime(2017, 8, 4, 10, 53, 28, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    home = Path(os.environ.get("TESELA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    values, scl, moments = read_series(home / "worldcereal_s2_ts" / SITE)
    document: dict[str, object] = {"dates": len(moments)}
    with tempfile.TemporaryDirectory() as folder:
        used = write_items(Path(folder) / "scenes", values, scl, moments)
        images = {}
        for rule in ("median", "best", "medoid"):
            made = write_mosaics(
                find_catalogue(f"{folder}/scenes"),
                Area(GRID),
                f"{folder}/{rule}",
                periods=parse_periods("4,7,9", 2018),
                bands=",".join(BANDS),
                rule=rule,
                buffer="40 m",
            )
            images[rule] = [read(one.image) for one in made]
            document[rule] = [
                {
                    "period": one.period,
                    "scenes": one.scenes,
                    "gaps": f"{one.gaps / one.pixels:.2%}",
                    "mean_views": one.mean_count,
                    "red_sd": round(float(read(one.image)[0].std()), 1),
                }
                for one in made
            ]
    print(json.dumps(document, indent=2))
    if options.picture:
        draw(options.picture, values, moments, used, images)


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray, list[datetime]]:
    """(dates, bands, rows, cols) numbers, (dates, rows, cols) classes of 10 m, and the dates."""
    layers = []
    for band in BANDS:
        with rasterio.open(f"netcdf:{folder / FILE.format(metres=10)}:{band}") as data:
            layers.append(data.read())
            seconds = data.tags()["NETCDF_DIM_timestamp_VALUES"].strip("{}").split(",")
    with rasterio.open(f"netcdf:{folder / FILE.format(metres=20)}:SCL") as data:
        scl = data.read().repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
    moments = [START + timedelta(seconds=int(text)) for text in seconds]
    return np.stack(layers, axis=1), scl, moments


def write_items(folder: Path, values: np.ndarray, scl: np.ndarray, moments: list[datetime]) -> list[int]:
    used = [n for n, moment in enumerate(moments) if moment.year == 2018 and moment.month in (4, 7, 9)]
    for number in used:
        bands = dict(zip(BANDS, values[number], strict=True))
        seen = Acquisition(bands, scl[number], GRID, moments[number], tile="31UDS")
        write_acquisition(folder, seen, layout="earth-search")
    return used


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as data:
        return data.read()


def draw(
    path: Path,
    values: np.ndarray,
    moments: list[datetime],
    used: list[int],
    images: dict[str, list[np.ndarray]],
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    july = [n for n in used if moments[n].month == 7]
    chosen = july[:: max(1, len(july) // 5)][:5]
    panels = [(f"{moments[n]:%d %B}", values[n][:3]) for n in chosen]
    panels += [("mosaic of July: median", images["median"][1][:3])]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.3 * len(panels), 2.7), layout="constrained")
    for axis, (title, numbers) in zip(axes, panels, strict=True):
        axis.imshow(np.clip(numbers.transpose(1, 2, 0) / 2200, 0, 1) ** 0.8, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
