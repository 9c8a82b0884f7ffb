"""The real data sets, each as labelled scenes in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.warp import Resampling, reproject
from scipy.ndimage import uniform_filter

DATA = Path(os.environ.get("TESELA_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))

S2_BANDS = {
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "re1",
    "B06": "re2",
    "B07": "re3",
    "B08": "nir",
    "B8A": "nir8a",
    "B11": "swir1",
    "B12": "swir2",
}
_TERRAMIND_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
TREE_RADIUS_M = 3.0
"""Radius of the disc that stands for the crown of a tree point."""


class MissingData(Exception):
    """The files of a set are not there."""


@dataclass(frozen=True)
class LabelledScene:
    """One image with its reference."""

    name: str
    image: NDArray[np.float32]
    """(bands, rows, cols)"""
    labels: NDArray[np.uint8]
    """(rows, cols): 1 for the first class; 0 where there is none."""
    units: NDArray[np.int32]
    """(rows, cols): block, patch or polygon of each pixel, numbered over all scenes; a unit is in one split."""
    crs: str
    transform: Affine


@dataclass(frozen=True)
class DataSet:
    """Scenes of one legend and one list of bands."""

    name: str
    scenes: tuple[LabelledScene, ...]
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    patch_px: int
    """Side of the patches that networks train on."""
    unit: str
    """What a unit is: "block of 64 px", "patch", "polygon"."""
    terrain: int = 0
    """Number of terrain bands, the last ones."""
    pixels_only: bool = False
    """Neighbours in the raster are not neighbours on the earth: windows mean nothing."""
    test_units: tuple[int, ...] = ()
    """Units that test whatever the seed."""

    @property
    def units(self) -> int:
        """Number of units."""
        return 1 + max(int(scene.units.max()) for scene in self.scenes)


def load_set(name: str) -> DataSet:
    """
    Load a set by its name in `SETS`.

    Raises
    ------
    MissingData
        If its files are not there.
    """
    try:
        return SETS[name](name)
    except (rasterio.errors.RasterioIOError, FileNotFoundError) as error:
        raise MissingData(f"{name}: {error} Set TESELA_DATA to the folder of the real data.") from None


def require_set(name: str) -> DataSet:
    """As `load_set`; where files are missing the program ends with that one line."""
    try:
        return load_set(name)
    except MissingData as error:
        sys.exit(str(error))


def _blocks(shape: tuple[int, int], side_px: int) -> NDArray[np.int32]:
    rows, cols = np.arange(shape[0]) // side_px, np.arange(shape[1]) // side_px
    return (rows[:, None] * (cols[-1] + 1) + cols[None]).astype(np.int32)


def _compact(
    codes: Sequence[NDArray[np.integer]], names: dict[int, str]
) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Codes renumbered from 1, classes that do not occur left out; 0 stays 0."""
    present = [
        code for code in np.unique(np.concatenate([item.ravel() for item in codes])).tolist() if code > 0
    ]
    table = np.zeros(max(present) + 1, np.uint8)
    table[present] = np.arange(1, len(present) + 1)
    return [table[np.clip(item, 0, None)] for item in codes], [names.get(code, str(code)) for code in present]


def _lanjaron(name: str) -> DataSet:
    """Landsat 8 and CORINE 2018, cropped to 608 x 384 px, in blocks of 1.92 km."""
    level, dem = int(name.split("-")[1]), name.endswith("-dem")
    folder, rows, cols = DATA / "lanjaron_l8_clc", 608, 384
    with rasterio.open(folder / "l8_b2b7_30m.tif") as data:
        image = data.read(window=((0, rows), (0, cols))).astype(np.float32) * 2.75e-5 - 0.2
        transform, crs = data.transform, data.crs
    with rasterio.open(folder / "clc2018_25m.tif") as data:
        codes = np.zeros((rows, cols), np.float64)
        reproject(
            data.read(1).astype(np.float64),
            codes,
            src_transform=data.transform,
            src_crs=data.crs,
            dst_transform=transform,
            dst_crs=crs,
            resampling=Resampling.nearest,
            src_nodata=4294967295.0,
            dst_nodata=0,
        )
    bands = ["blue", "green", "red", "nir", "swir1", "swir2"]
    extra = _terrain(folder / "dem_25m.tif", (rows, cols), transform, crs) if dem else {}
    if extra:
        image = np.concatenate([image, np.stack(list(extra.values()))])
    (labels,), classes = _compact([codes.astype(np.int64) // 10 ** (3 - level)], {})
    scene = LabelledScene("lanjaron", image, labels, _blocks((rows, cols), 64), crs.to_string(), transform)
    return DataSet(name, (scene,), (*bands, *extra), tuple(classes), 64, "block of 64 px", terrain=len(extra))


def _terrain(
    path: Path, shape: tuple[int, int], transform: Affine, crs: object
) -> dict[str, NDArray[np.float32]]:
    """Altitude, slope (m/m), aspect, and altitude above the mean of two windows, on the grid of the image."""
    z = np.zeros(shape, np.float32)
    with rasterio.open(path) as data:
        reproject(
            data.read(1),
            z,
            src_transform=data.transform,
            src_crs=data.crs,
            dst_transform=transform,
            dst_crs=crs,
            resampling=Resampling.bilinear,
        )
    south, east = np.gradient(z, transform.a)
    aspect = np.arctan2(south, east)
    return {
        "altitude": z,
        "slope": np.hypot(south, east).astype(np.float32),
        "aspect-sin": np.sin(aspect).astype(np.float32),
        "aspect-cos": np.cos(aspect).astype(np.float32),
        "position-31": z - uniform_filter(z, 31),
        "position-101": z - uniform_filter(z, 101),
    }


def _chesapeake(name: str) -> DataSet:
    """NAIP 2014 and land cover, 12 patches of 256 px; they have no georeference, so places are made up."""
    files = _files("chesapeake_naip_lc/patches", "*.npz")
    arrays = [np.load(file)["arr_0"][0] for file in files]
    names = {1: "water", 2: "tree", 3: "low vegetation", 4: "barren", 5: "impervious", 6: "road"}
    labels, classes = _compact([item[8].astype(np.int64) for item in arrays], names)
    scenes = [
        LabelledScene(
            f"patch{number:02d}",
            np.ascontiguousarray(item[:4], np.float32),
            labels[number],
            np.full(labels[number].shape, number, np.int32),
            "EPSG:26917",
            Affine(1, 0, 500_000 + 1000 * number, 0, -1, 4_200_000),
        )
        for number, item in enumerate(arrays)
    ]
    return DataSet(name, tuple(scenes), ("red", "green", "blue", "nir"), tuple(classes), 128, "patch")


def _slovenia(name: str) -> DataSet:
    """Three clear dates of Sentinel-2 as 30 bands, 96 x 96 px, in blocks of 160 m."""
    folder = DATA / "eolearn_s2_slovenia" / "derived_geotiff"
    layers, bands = [], []
    for date in ("2015-07-11", "2015-08-30", "2015-09-09"):
        with rasterio.open(folder / f"S2_L1C_{date}.tif") as data:
            numbers = [data.descriptions.index(band) + 1 for band in S2_BANDS]
            layers.append(data.read(numbers, window=((0, 96), (0, 96))))
            transform, crs = data.transform, data.crs
        bands += [f"{band}_{date[5:7]}{date[8:]}" for band in S2_BANDS.values()]
    with rasterio.open(folder / "LULC.tif") as data:
        codes = data.read(1, window=((0, 96), (0, 96))).astype(np.int64)
    codes[codes == 1] = 0  # cultivated: 11 pixels measure nothing
    names = {2: "forest", 3: "grassland", 4: "shrubland", 8: "artificial"}
    (labels,), classes = _compact([codes], names)
    image = np.concatenate(layers).astype(np.float32)
    scene = LabelledScene("slovenia", image, labels, _blocks((96, 96), 16), crs.to_string(), transform)
    return DataSet(name, (scene,), tuple(bands), tuple(classes), 32, "block of 16 px")


def _terramind(name: str) -> DataSet:
    """Three Sentinel-2 tiles of 224 px, 12 bands, and the land cover of Esri, in blocks of 320 m."""
    names = {1: "water", 2: "trees", 3: "flooded", 4: "crops", 5: "built", 6: "bare", 9: "rangeland"}
    files = _files("terramind_s2_lulc/S2L2A", "*.tif")
    codes = []
    for file in files:
        with rasterio.open(file.parents[1] / "LULC" / file.name) as data:
            codes.append(data.read(1).astype(np.int64))
    labels, classes = _compact(codes, names)
    scenes, begin = [], 0
    for file, own in zip(files, labels, strict=True):
        with rasterio.open(file) as data:
            image, transform, crs = data.read().astype(np.float32), data.transform, data.crs
        units = _blocks(own.shape, 32) + begin
        begin = int(units.max()) + 1
        scenes.append(LabelledScene(file.stem, image, own, units, crs.to_string(), transform))
    bands = tuple({"B01": "coastal", "B09": "vapour", **S2_BANDS}[band] for band in _TERRAMIND_BANDS)
    return DataSet(name, tuple(scenes), bands, tuple(classes), 64, "block of 32 px")


def _urban(name: str) -> DataSet:
    """NAIP at 60 cm, 28 chips of 256 px; tree cover is a disc around each tree point."""
    scenes = []
    for number, file in enumerate(_files("urban_tree_naip/images", "*.tif")):
        with rasterio.open(file) as data:
            image, transform, crs = data.read().astype(np.float32), data.transform, data.crs
        points = file.parents[1] / "csv" / f"{file.stem}.csv"
        labels = np.full(image.shape[1:], 2, np.uint8)
        if points.exists():
            y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
            for east, south in np.loadtxt(points, delimiter=",", skiprows=1, ndmin=2):
                labels[np.hypot(x - east, y - south) <= TREE_RADIUS_M / transform.a] = 1
        units = np.full(labels.shape, number, np.int32)
        scenes.append(LabelledScene(file.stem, image, labels, units, crs.to_string(), transform))
    return DataSet(name, tuple(scenes), ("red", "green", "blue", "nir"), ("tree", "open"), 128, "chip")


def _neon(name: str) -> DataSet:
    """Plots of 40 m at 10 cm, cropped to 384 px; tree cover is the boxes of the crowns."""
    import geopandas as gpd

    scenes = []
    for number, file in enumerate(_files("neon_tree_crowns", "*.tif")):
        with rasterio.open(file) as data:
            image = data.read(window=((0, 384), (0, 384))).astype(np.float32)
            transform, crs = data.transform, data.crs
        crowns = gpd.read_file(file.with_name(f"{file.stem}_crowns.gpkg")).geometry
        burnt = rasterize(crowns, (384, 384), transform=transform, fill=0, default_value=1, dtype="uint8")
        labels = np.where(burnt == 1, 1, 2).astype(np.uint8)
        units = np.full(labels.shape, number, np.int32)
        scenes.append(LabelledScene(file.stem, image, labels, units, crs.to_string(), transform))
    return DataSet(name, tuple(scenes), ("red", "green", "blue"), ("tree", "open"), 128, "plot")


def _cities(name: str) -> DataSet:
    """
    Pixels of three German cities, one raster a city; the named city tests.

    Patches hold whole polygons, but for those cut by an edge, so that blocks of patches are as independent as polygons.
    Neighbours in such a raster mean nothing: models that look at them learn the order of the table.
    """
    import pandas as pd

    file = DATA / "s2_german_cities_pixels" / "s2_pixels.parquet"
    frame = pd.read_parquet(file)
    classes = sorted(frame["Label"].unique())
    polygons = {
        key: number for number, key in enumerate(sorted(set(zip(frame["Region"], frame["ID"], strict=True))))
    }
    scenes = []
    for number, (city, rows) in enumerate(
        frame.sort_values("ID", kind="stable").groupby("Region", sort=True)
    ):
        cols = 32
        height = (
            -(-len(rows) // cols // 32) * 32
        )  # whole patches; the last rows repeat pixels and have no label
        place = np.arange(height * cols) % len(rows)
        image = rows[list(S2_BANDS)].to_numpy(np.float32)[place].T.reshape(-1, height, cols)
        labels = rows["Label"].map({item: value for value, item in enumerate(classes, 1)}).to_numpy()[place]
        labels = np.where(np.arange(height * cols) < len(rows), labels, 0).astype(np.uint8)
        keys = zip(rows["Region"], rows["ID"], strict=True)
        units = np.array([polygons[key] for key in keys], np.int32)[place]
        transform = Affine(10, 0, 500_000 + 10_000 * number, 0, -10, 5_500_000)
        scenes.append(
            LabelledScene(
                str(city).lower(),
                np.ascontiguousarray(image),
                labels.reshape(height, cols),
                units.reshape(height, cols),
                "EPSG:32632",
                transform,
            )
        )
    city = name.split("-")[1]
    tests = tuple(number for (region, _), number in polygons.items() if region.lower() == city)
    bands = tuple(S2_BANDS.values())
    return DataSet(
        name, tuple(scenes), bands, tuple(classes), 32, "polygon", pixels_only=True, test_units=tests
    )


def _files(folder: str, pattern: str) -> list[Path]:
    files = sorted((DATA / folder).glob(pattern))
    if not files:
        raise FileNotFoundError(f"{DATA / folder} holds no {pattern}.")
    return files


SETS: dict[str, Callable[[str], DataSet]] = {
    "lanjaron-1": _lanjaron,
    "lanjaron-1-dem": _lanjaron,
    "lanjaron-2": _lanjaron,
    "lanjaron-2-dem": _lanjaron,
    "chesapeake": _chesapeake,
    "slovenia": _slovenia,
    "sentinel-tiles": _terramind,
    "urban-trees": _urban,
    "neon-crowns": _neon,
    "cities-freiburg": _cities,
    "cities-jena": _cities,
    "cities-luebeck": _cities,
}
"""Sets by name; a set of a city tests on that city and trains on the two others."""
