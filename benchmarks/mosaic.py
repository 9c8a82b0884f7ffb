"""
One month from a catalogue to a mosaic: Tesela beside odc-stac's load and median of the same scenes.

    .venv/bin/python benchmarks/mosaic.py [--size 2048] [--scenes 8] [--work FOLDER]

Scenes of 10 m (red, green, blue, 20 m classification) are served over HTTP on loopback in the layout of Earth Search;
both read them from there, mask the same classes without buffer, and take the median. Each run is a process of its own.
The peer computes with Dask in chunks of 1024 px, as its documents advise. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mapping.probe import machine, measure, run_alone

BANDS = ("B04", "B03", "B02")
NAMES = ("red", "green", "blue")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--work", type=Path, help="folder for the scenes; default: a temporary one")
    parser.add_argument("--one", nargs=3, metavar=("WHO", "ADDRESS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        who, address, out = options.one
        print(json.dumps({"tesela": ours, "odc-stac": peer}[who](address, Path(out), options.size)))
        return
    from tesela.simulate.server.server import ProviderServer

    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        write_scenes(Path(folder) / "scenes", options.size, options.scenes)
        runs = {}
        with ProviderServer(Path(folder) / "scenes") as server:
            for who in ("tesela", "odc-stac"):
                words = ["--size", str(options.size), "--one", who, server.address, f"{folder}/{who}"]
                runs[who] = run_alone(__file__, words)
        differ = compare(Path(folder))
    rate = {
        who: round(options.size**2 * options.scenes / 1e6 / float(run["wall_s"]), 2)
        for who, run in runs.items()
    }
    print(
        json.dumps(
            {
                "machine": machine(),
                "size_px": options.size,
                "scenes": options.scenes,
                "runs": runs,
                "scene_mpx_per_s": rate,
                "pixels_that_differ_by_more_than_1": differ,
            },
            indent=2,
        )
    )


def write_scenes(folder: Path, size: int, scenes: int) -> None:
    from tesela.simulate.server.catalogue import Acquisition, write_acquisition

    rng = np.random.default_rng(0)
    coarse = rng.integers(300, 3000, (len(BANDS), size // 64, size // 64), np.uint16)
    ground = coarse.repeat(64, axis=1).repeat(64, axis=2)
    for number in range(scenes):
        cloudy = rng.random((size // 128, size // 128)) < 0.3
        scl = np.where(cloudy, 9, 4).astype(np.uint8).repeat(128, axis=0).repeat(128, axis=1)
        noise = rng.integers(0, 200, ground.shape, np.uint16)
        seen = Acquisition(
            dict(zip(BANDS, ground + noise, strict=True)),
            scl,
            grid_of(size),
            datetime(2018, 4, 2 + 3 * number, 10, 50, tzinfo=UTC),
        )
        write_acquisition(folder, seen, layout="earth-search")


def grid_of(size: int) -> object:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    return GeoBox((size, size), Affine(10, 0, 440_000, 0, -10, 4_090_000), "EPSG:32630")


def ours(address: str, out: Path, size: int) -> dict[str, object]:
    from tesela.sources.areas import Area
    from tesela.sources.mosaic.mosaic import write_mosaics
    from tesela.sources.periods import parse_periods
    from tesela.sources.providers import open_catalogue

    return measure(
        lambda: write_mosaics(
            open_catalogue(f"earth-search={address}"),
            Area(grid_of(size)),
            out,
            periods=parse_periods("4", 2018),
            bands="rgb",
            buffer=0,
            memory="256 MiB",
        )
    )


def peer(address: str, out: Path, size: int) -> dict[str, object]:
    import odc.stac
    import pystac_client

    def work() -> None:
        client = pystac_client.Client.open(address)
        items = list(client.search(collections=["sentinel-2-l2a"], datetime="2018-04-01/2018-04-30").items())
        data = odc.stac.load(
            items,
            bands=[*NAMES, "scl"],
            geobox=grid_of(size),
            groupby="solar_day",
            chunks={"x": 1024, "y": 1024},
            resampling={"scl": "nearest", "*": "bilinear"},
        )
        clear = ~data.scl.isin([0, 1, 2, 3, 8, 9, 10])
        middle = data[list(NAMES)].where(clear & (data.red > 0)).median("time").compute(num_workers=8)
        out.mkdir(parents=True)
        np.save(out / "median.npy", np.stack([middle[name].values for name in NAMES]))

    return measure(work)


def compare(folder: Path) -> int:
    import rasterio

    with rasterio.open(folder / "tesela" / "2018-04.tif") as data:
        mine = data.read().astype(float)
    theirs = np.nan_to_num(np.load(folder / "odc-stac" / "median.npy"), nan=0.0)
    return int((np.abs(mine - theirs) > 1).sum())


if __name__ == "__main__":
    main()
