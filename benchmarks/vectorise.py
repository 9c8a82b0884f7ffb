"""
Polygons of a generalised map of 100 Mpx: ours beside rasterio's, and shared borders simplified together or alone.

The map is a fractal landscape of 15 classes with salt and pepper, brought to a unit of 25 ha. Simplified polygons are
checked by the exact share of 1 km cells that they cover: more than 1 is an overlap, less a gap. Whether neighbours
have the same corners (a coverage in the sense of the OGC) is asked of a corner of the map, as that takes long.
Processor seconds; prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import shapes as rasterio_shapes
from scipy.ndimage import zoom

from tesela.core.legend import LandClass, Legend
from tesela.generalise.unit import drop_small_areas
from tesela.generalise.vectorise import polygons_of, simplify_coverage
from tesela.io.maps import ClassMap, write_map
from tesela.labels.fractions import polygon_fractions

CLASSES = 15
PIXEL_M = 10.0
UNIT_PX = 2500
SIMPLIFY_M = 15.0
CELL_M = 1000.0
CORNER_PX = 1500
LEGEND = Legend(
    "bench", tuple(LandClass(k, str(k), f"Class {k}", f"#{k * 16:02x}8040") for k in range(1, CLASSES + 1))
)


def make_map(folder: Path, side_px: int, *, seed: int = 0) -> ClassMap:
    random = np.random.default_rng(seed)
    field = np.zeros((side_px, side_px), np.float32)
    for cell in (500, 125, 25):
        lattice = random.standard_normal((side_px // cell + 2,) * 2).astype(np.float32)
        field += zoom(lattice, cell, order=1)[:side_px, :side_px] * np.float32((cell / 500) ** 0.7)
    cuts = np.quantile(field[::7, ::7], np.linspace(0, 1, CLASSES + 1)[1:-1])
    values = (np.searchsorted(cuts, field) + 1).astype(np.uint8)
    hit = random.random(values.shape, dtype=np.float32) < 0.1
    values[hit] = random.integers(1, CLASSES + 1, int(hit.sum()), dtype=np.uint8)
    values = drop_small_areas(values, unit_px=UNIT_PX, edges="merge")
    grid = GeoBox(values.shape, Affine(PIXEL_M, 0, 3_000_000, 0, -PIXEL_M, 2_000_000), "EPSG:3035")
    return write_map(folder / "map.tif", values, grid, legend=LEGEND)


def by_rasterio(source: ClassMap, values: NDArray[np.uint8]) -> NDArray[np.object_]:
    found = rasterio_shapes(values, connectivity=4, transform=source.grid.affine)
    return np.array([shapely.geometry.shape(outline) for outline, _ in found], object)


def faults(shapes: NDArray[np.object_], source: ClassMap) -> dict[str, float | int]:
    """Gaps and overlaps in hectares, and polygons that are invalid or gone."""
    side = int(source.grid.shape[0] * PIXEL_M / CELL_M)
    grid = GeoBox((side, side), source.grid.affine * Affine.scale(CELL_M / PIXEL_M), source.grid.crs)
    invalid = ~shapely.is_valid(shapes)
    sound = np.where(invalid, shapely.make_valid(shapes), shapes)
    cover = polygon_fractions(sound, np.zeros(len(shapes), int), 1, grid=grid).cover
    return {
        "gaps_ha": round(float((1 - cover).clip(0).sum()) * CELL_M**2 / 1e4, 6),
        "overlaps_ha": round(float((cover - 1).clip(0).sum()) * CELL_M**2 / 1e4, 6),
        "invalid": int(invalid.sum()),
        "gone": int((shapely.area(shapes) == 0).sum()),
        "corners": int(shapely.get_num_coordinates(shapes).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-px", type=int, default=10_000)
    side_px = parser.parse_args().side_px
    report: dict[str, object] = {"side_px": side_px, "simplify_m": SIMPLIFY_M}
    with tempfile.TemporaryDirectory() as name:
        source = make_map(Path(name), side_px)
        with rasterio.open(source.path) as data:
            values = data.read(1)
        small = ClassMap(source.path, source.grid[:CORNER_PX, :CORNER_PX], source.legend)
        ours = polygons_of(small).geometry.to_numpy()  # compiles too
        theirs = by_rasterio(small, values[:CORNER_PX, :CORNER_PX])
        report["same_corners_on_both_sides"] = {
            "tesela": bool(shapely.coverage_is_valid(ours)),
            "rasterio": bool(shapely.coverage_is_valid(theirs)),
        }
        start = time.process_time()
        shapes = polygons_of(source).geometry.to_numpy()
        seconds = time.process_time() - start
        report["tesela"] = {
            "seconds": seconds,
            "areas": len(shapes),
        } | faults(shapes, source)
        start = time.process_time()
        theirs = by_rasterio(source, values)
        report["rasterio"] = {"seconds": time.process_time() - start, "areas": len(theirs)}
        start = time.process_time()
        together = simplify_coverage(shapes, SIMPLIFY_M)
        seconds = time.process_time() - start
        report["simplified_together"] = {"seconds": seconds} | faults(together, source)
        start = time.process_time()
        alone = shapely.simplify(shapes, SIMPLIFY_M)
        report["simplified_alone"] = {"seconds": time.process_time() - start} | faults(alone, source)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
