"""
Exact class shares of MODIS cells from polygons, beside exactextract and beside rasterising at 10 m.

200,000 polygons (a Voronoi mosaic bent by a smooth field, so that neighbours share curved borders) of 15 classes
cover 100 x 100 km; the cells are 463.3 m wide. Both methods get the same polygons in memory and end with the same
array of shares; both run in one thread, and processor seconds are compared. Where they differ, shapely's overlay of
a sample of cells says who is right. The papers draw the polygons at 10 m and count pixel centres: the last figures
are the errors of that, on a quarter of the ground. Prints one JSON document.

Needs exactextract (the extra `bench`) for the comparison; without it says so and measures the rest.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from tesela.labels.fractions import polygon_fractions

CELL_M = 463.3127165694
CLASSES = 15
CRS = "EPSG:25830"
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
LEFT, TOP = 400_000.0, 4_200_000.0
SAMPLE = 400


def make_polygons(
    count: int, side_m: float, *, seed: int = 0
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Polygons that cover a square, and their classes; neighbours often share a class, as in a map."""
    random = np.random.default_rng(seed)
    points = random.uniform(0, side_m, (count, 2))
    frame = shapely.box(0, 0, side_m, side_m)
    tiles = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(points), extend_to=frame))
    shapes = shapely.segmentize(shapely.intersection(tiles, frame), side_m / count**0.5 / 8)
    waves = [(random.uniform(0, 2 * np.pi, 4), length) for length in (700.0, 1900.0, 5300.0)]

    def bend(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy[:, 0] / side_m * 2 * np.pi, xy[:, 1] / side_m * 2 * np.pi
        moved = xy.copy()
        for phase, length in waves:
            k = round(side_m / length)
            moved[:, 0] += 0.04 * length * np.sin(k * y + phase[0]) * np.sin(x / 2)
            moved[:, 1] += 0.04 * length * np.sin(k * x + phase[1]) * np.sin(y / 2)
        return moved + np.array([LEFT, TOP - side_m])

    shapes = shapely.transform(shapes, bend)
    middle = shapely.get_coordinates(shapely.centroid(shapes))
    wave = sum(np.sin(middle[:, k % 2] / length + phase[2]) for k, (phase, length) in enumerate(waves))
    classes = (wave * 2 + random.gumbel(0, 0.8, count)).argsort().argsort() * CLASSES // count
    return shapes, classes.astype(np.int64)


def measure(work: Callable[[], NDArray[np.float64]]) -> tuple[NDArray[np.float64], float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def by_exactextract(
    shapes: NDArray[np.object_], classes: NDArray[np.int64], grid: GeoBox, *, strategy: str
) -> NDArray[np.float64]:
    import geopandas as gpd
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    rows, cols = grid.shape
    left, bottom, right, top = grid.extent.boundingbox
    numbers = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
    raster = NumPyRasterSource(
        numbers, xmin=left, ymin=bottom, xmax=right, ymax=top, srs_wkt=grid.crs.to_wkt()
    )
    frame = gpd.GeoDataFrame({"class": classes}, geometry=shapes, crs=CRS)
    found = exact_extract(
        raster, frame, ["values", "coverage"], include_cols=["class"], output="pandas", strategy=strategy
    )
    lengths = found["values"].map(len)
    cells = np.concatenate(found["values"].to_numpy())
    shares = np.concatenate(found["coverage"].to_numpy())
    at = np.repeat(found["class"].to_numpy(), lengths) * rows * cols + cells
    return np.bincount(at, shares, minlength=CLASSES * rows * cols).reshape(CLASSES, rows, cols)


def by_overlay(
    shapes: NDArray[np.object_], classes: NDArray[np.int64], grid: GeoBox, chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    rows, cols = np.divmod(chosen, grid.shape[1])
    x, y = grid.affine * (cols, rows)
    cells = shapely.box(x, y - CELL_M, x + CELL_M, y)
    cell, shape = shapely.STRtree(shapes).query(cells)
    areas = shapely.area(shapely.intersection(cells[cell], shapes[shape])) / CELL_M**2
    found = np.zeros((CLASSES, len(chosen)))
    np.add.at(found, (classes[shape], cell), areas)
    return found


def by_pixels(shapes: NDArray[np.object_], classes: NDArray[np.int64], grid: GeoBox) -> NDArray[np.float64]:
    """Share of the centres of 10 m pixels in each cell, a strip of cells at a time."""
    rows, cols = grid.shape
    left, top = grid.affine.c, grid.affine.f
    wide = int(cols * CELL_M / 10)
    col = ((np.arange(wide) + 0.5) * 10 / CELL_M).astype(np.int64)
    found = np.zeros((CLASSES, rows, cols))
    tree = shapely.STRtree(shapes)
    for first in range(0, int(rows * CELL_M / 10), 2000):
        tall = min(2000, int(rows * CELL_M / 10) - first)
        place = Affine(10, 0, left, 0, -10, top - first * 10)
        box = shapely.box(left, top - (first + tall) * 10, left + wide * 10, top - first * 10)
        near = np.sort(tree.query(box))
        pairs = zip(shapes[near], classes[near] + 1, strict=True)
        drawn = rasterize(pairs, out_shape=(tall, wide), transform=place, dtype="uint8")
        row = ((first + np.arange(tall) + 0.5) * 10 / CELL_M).astype(np.int64)
        at = (row[:, None] * cols + col[None, :])[drawn > 0]
        count = np.bincount((drawn[drawn > 0] - 1).astype(np.int64) * rows * cols + at, minlength=found.size)
        found += count.reshape(found.shape)
    return found / found.sum(axis=0).clip(1)


def errors(found: NDArray[np.float64], exact: NDArray[np.float64]) -> dict[str, float]:
    full = exact.sum(axis=0) > 1 - 1e-9
    found, exact = found[:, full], exact[:, full]
    present, small = exact > 0, (exact > 0) & (exact < 0.01)
    return {
        "cells": int(full.sum()),
        "mean_error_per_present_class": float(np.abs(found - exact)[present].mean()),
        "max_error": float(np.abs(found - exact).max()),
        "dominant_class_differs": float((found.argmax(axis=0) != exact.argmax(axis=0)).mean()),
        "shares_under_1_percent_lost": float((found[small] == 0).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polygons", type=int, default=200_000)
    count = parser.parse_args().polygons
    cells = round((count / 200_000) ** 0.5 * 215)
    shapes, classes = make_polygons(count, cells * CELL_M)
    grid = GeoBox((cells, cells), Affine(CELL_M, 0, LEFT, 0, -CELL_M, TOP), CRS)
    report: dict[str, object] = {
        "polygons": count,
        "corners": int(shapely.get_num_coordinates(shapes).sum()),
        "valid": bool(shapely.is_valid(shapes).all()),
        "cells": cells**2,
        "classes": CLASSES,
    }
    polygon_fractions(shapes[:10], classes[:10], CLASSES, grid=grid)  # compile

    def ours() -> NDArray[np.float64]:
        found = polygon_fractions(shapes, classes, CLASSES, grid=grid)
        return np.nan_to_num(found.shares) * found.cover

    runs = [measure(ours) for _ in range(3)]
    exact, wall, cpu = sorted(runs, key=lambda run: run[2])[1]
    inner = exact[:, 1:-1, 1:-1].sum(axis=0)
    report["tesela"] = {"seconds": wall, "cpu_seconds": cpu, "sum_error": float(np.abs(inner - 1).max())}

    x, y = pyproj.Transformer.from_crs(CRS, SINUSOIDAL, always_xy=True).transform(
        LEFT + cells * CELL_M / 2, TOP - cells * CELL_M / 2
    )
    modis = GeoBox(
        (cells, cells),
        Affine(CELL_M, 0, x - cells * CELL_M / 2, 0, -CELL_M, y + cells * CELL_M / 2),
        SINUSOIDAL,
    )
    _, wall_modis, cpu_modis = measure(
        lambda: polygon_fractions(shapes, classes, CLASSES, grid=modis, crs=CRS).cover
    )
    report["tesela_to_sinusoidal"] = {"seconds": wall_modis, "cpu_seconds": cpu_modis}

    chosen = np.random.default_rng(1).choice(cells**2, min(SAMPLE, cells**2), replace=False)
    overlay = by_overlay(shapes, classes, grid, chosen)
    flat = exact.reshape(CLASSES, -1)[:, chosen]
    report["shapely_sample"] = {
        "cells": len(chosen),
        "tesela_max_difference": float(np.abs(flat - overlay).max()),
    }
    try:
        theirs = {
            name: measure(lambda name=name: by_exactextract(shapes, classes, grid, strategy=name))
            for name in ("feature-sequential", "raster-sequential")
        }
    except ModuleNotFoundError:
        report["exactextract"] = "not installed: it is in the extra `bench`"
    else:
        best = min(theirs, key=lambda name: theirs[name][2])
        found, seconds, cpu_seconds = theirs[best]
        sample = found.reshape(CLASSES, -1)[:, chosen]
        report["exactextract"] = {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "strategy": best,
            "max_difference": float(np.abs(found - exact).max()),
            "shapely_max_difference": float(np.abs(sample - overlay).max()),
            "times_slower": cpu_seconds / cpu,
        }
    quarter = cells // 2
    part = GeoBox((quarter, quarter), grid.affine, CRS)
    near = shapely.STRtree(shapes).query(shapely.box(*part.extent.boundingbox))
    drawn, seconds, _ = measure(lambda: by_pixels(shapes[near], classes[near], part))
    report["pixels_of_10_m"] = {"seconds": seconds, **errors(drawn, exact[:, :quarter, :quarter])}
    report["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
