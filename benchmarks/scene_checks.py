"""
Checks of imagery: which real scenes are refused as they are, and how often planted mistakes are found.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/scene_checks.py [--every 3]
        [--pairs cities dates naip terramind series]

For each pair of scenes the pixels of one describe the training imagery, and `tesela.mapping.scene_distance` checks the
other one: as it is (a refusal is a false alarm), and with bands exchanged (blue and red; red and near infrared; the two
last ones; the reverse order) or 1000 numbers added or taken away. Pairs: German cities, dates in Slovenia and NAIP of
two years as in ``transfer.py``; three Sentinel-2 tiles in Brazil, Chile and Denmark; and 88 cloud-free dates of two
sites in Flanders from 2017 to 2019, each 12th date against each 6th one. Data: TESELA_DATA or ../shared/data.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from real_accuracy.sets import DATA, S2_BANDS, DataSet
from tesela.core.legend import LandClass, Legend
from tesela.core.scene import Band, Scene
from tesela.core.training_imagery import describe_imagery
from tesela.mapping.scene_distance import find_mismatch, measure_distance
from tesela.models.header import ExpertHeader
from tesela.models.segmentation.unet import UnetArchitecture
from transfer import PAIRS

Pixels = NDArray[np.floating]
Labelled = tuple[Pixels, NDArray[np.integer]]

NAMES = tuple(S2_BANDS.values())
S2_FILES = [2, 3, 4, 5, 6, 7, 8, 9, 11, 12]
"""Bands of TerraMind's files, from 1."""


def main() -> None:
    """Check and print one line a pair, then a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--every", type=int, default=1, help="plant mistakes in each nth pair")
    options = parser.parse_args()
    rows: list[tuple[str, str, bool]] = []
    number = itertools.count()
    for kind in options.pairs:
        for name, bands, source, target in KINDS[kind]():
            header = describe(bands, *source)
            for mistake, pixels in planted(target, bands, all_of_them=next(number) % options.every == 0):
                said = check(header, pixels)
                rows.append((kind, mistake, bool(said)))
                if said and mistake == "as it is":
                    print(f"{kind} {name}, {mistake}: {said[:100]}", flush=True)
    mistakes = list(dict.fromkeys(row[1] for row in rows))
    print("| pairs | " + " | ".join(mistakes) + " |")
    print("| --- " + "| ---: " * len(mistakes) + "|")
    for kind in (*options.pairs, "all"):
        found, tried = Counter(), Counter()
        for own, mistake, refused in rows:
            if kind in (own, "all"):
                found[mistake] += refused
                tried[mistake] += 1
        print(f"| {kind} | " + " | ".join(f"{found[name]} of {tried[name]}" for name in mistakes) + " |")


def describe(bands: tuple[str, ...], pixels: Pixels, labels: NDArray[np.integer]) -> ExpertHeader:
    """Header of an expert that was trained on these pixels."""
    known = np.flatnonzero((labels > 0) & np.isfinite(pixels).all(1))
    chosen = np.random.default_rng(0).permutation(known)[:6000]
    values, classes = pixels[chosen].astype(np.float64), labels[chosen]
    mean, std = values.mean(0), values.std(0)
    legend = Legend("two", (LandClass(1, "a", "A", "#111111"), LandClass(2, "b", "B", "#222222")))
    return ExpertHeader(
        UnetArchitecture(len(bands), 2),
        legend,
        bands,
        tuple(mean.tolist()),
        tuple(std.tolist()),
        patch_size_px=32,
        pixel_size_m=10,
        imagery=describe_imagery((values - mean) / std, classes, mean=mean, std=std),
    )


def check(header: ExpertHeader, pixels: Pixels) -> str:
    """What `tesela predict` says of a scene whose files name no band."""
    bands = tuple(Band(name, "", 1, "float32") for name in header.bands)
    scene = Scene("target", bands, GeoBox((1, 1), Affine.identity(), "EPSG:32630"))
    values = pixels[:: max(1, len(pixels) // 1000)].astype(np.float32)
    return find_mismatch(header, scene, values, measure_distance(header, values), named=())


def planted(target: Pixels, bands: tuple[str, ...], *, all_of_them: bool) -> Iterator[tuple[str, Pixels]]:
    """The pixels as they are, and with mistakes."""
    pixels = target[np.isfinite(target).all(1)]
    pixels = pixels[np.random.default_rng(1).permutation(len(pixels))[:1000]]
    yield "as it is", pixels
    if not all_of_them:
        return
    own = list(range(len(bands)))
    for name, pair in (
        ("blue and red", ("blue", "red")),
        ("red and infrared", ("red", "nir")),
        ("last two", bands[-2:]),
    ):
        if set(pair) <= set(bands):
            order, (first, second) = own.copy(), (bands.index(pair[0]), bands.index(pair[1]))
            order[first], order[second] = second, first
            yield name, pixels[:, order]
    yield "reverse order", pixels[:, ::-1]
    if pixels.max() < 2:
        yield "+1000", pixels + 0.1
        yield "-1000", pixels - 0.1


# --- pairs

Found = Iterator[tuple[str, tuple[str, ...], Labelled, Pixels]]


def flat(data: DataSet) -> Labelled:
    """All pixels of a set, and their labels."""
    return (
        np.concatenate([scene.image.reshape(len(scene.image), -1).T for scene in data.scenes]),
        np.concatenate([scene.labels.ravel() for scene in data.scenes]),
    )


def of_transfer(kind: str) -> Found:
    """Pairs of ``transfer.py``."""
    for pair in PAIRS[kind]():
        yield pair.name, pair.source.bands, flat(pair.source), flat(pair.target)[0]


def terramind() -> Found:
    """Three tiles of Sentinel-2."""
    tiles = []
    for file in sorted((DATA / "terramind_s2_lulc/S2L2A").glob("*.tif")):
        with rasterio.open(file) as image, rasterio.open(file.parents[1] / "LULC" / file.name) as labels:
            pixels = image.read(S2_FILES).reshape(len(S2_FILES), -1).T / 10_000
            tiles.append((file.stem, (pixels, labels.read(1).ravel())))
    for (one, source), (other, target) in itertools.permutations(tiles, 2):
        yield f"{one} to {other}", NAMES, source, target[0]


def series() -> Found:
    """Cloud-free dates of two sites in Flanders."""
    dates = []
    for site in sorted((DATA / "worldcereal_s2_ts").glob("0000*")):
        fine, coarse, labels = (
            next(site.glob(f"{name}*")) for name in ("S2_L2A_10m", "S2_L2A_20m", "OUTPUT")
        )

        def read(file: object, name: str) -> NDArray[np.generic]:
            with rasterio.open(f"netcdf:{file}:{name}") as data:
                return data.read()

        def twice(name: str, file: object = coarse) -> NDArray[np.generic]:
            return read(file, name).repeat(2, axis=1).repeat(2, axis=2)

        images = np.stack(
            [read(fine, name) if name in ("B02", "B03", "B04", "B08") else twice(name) for name in S2_BANDS],
            1,
        )
        clear = np.isin(twice("SCL"), (4, 5, 6, 7)).mean((1, 2)) > 0.95
        classes = read(labels, "LC")[0].ravel()
        for day in np.flatnonzero(clear):
            pixels = images[day].reshape(len(S2_BANDS), -1).T / 10_000
            dates.append((f"{site.name[-4:]}-{day}", (pixels, classes)))
    for one, source in dates[3::12]:
        for other, target in dates[::6]:
            if one != other:
                yield f"{one} to {other}", NAMES, source, target[0]


KINDS = {
    "cities": lambda: of_transfer("cities"),
    "dates": lambda: of_transfer("dates"),
    "naip": lambda: of_transfer("naip"),
    "terramind": terramind,
    "series": series,
}

if __name__ == "__main__":
    main()
