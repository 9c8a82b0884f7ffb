"""
Shift and point-spread function: found against known, and the error of a model before and after.

    .venv/bin/python benchmarks/sensor_geometry.py [--data all|virtual|lombardy] [--regions 3] [--trees 60] [--size PX]

The virtual region is seen by MODIS through a triangle two cells wide along the scan. Its reference is moved by known
shifts of parts of a cell; `tesela.labels.fractions.shift_of` finds them from the series. Then extra trees of 3 x 3
pixels learn the shares from half of the blocks, with labels counted as they are, shifted back, and shifted back and
seen through the response; RMSE in per cent on the other half, against the labels of the same kind and against the
true shares of the plain cells. The same for Lombardy (../shared/data/modis_clc_lombardy or TESELA_DATA), whose shift is
not known. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from tesela.core.legend import Legend, sum_to_level
from tesela.io.cube import Cube
from tesela.io.legends import open_legend
from tesela.labels.fractions import read_fractions, shift_of
from tesela.simulate.region.modis import write_coarse_region
from tesela.sources.ancillary import Ancillary
from tesela.sources.modis.cube import write_modis_cube
from tesela.sources.stack.cube import write_stack_cube
from tesela.sources.stack.reading import Unit

SHIFTS = ((0.0, 0.0), (0.2, 0.2), (-0.35, 0.1), (0.5, -0.4))
"""Rows and columns by which the image lies beside the reference, in cells."""

_BLOCK = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("all", "virtual", "lombardy"), default="all")
    parser.add_argument("--regions", type=int, default=3)
    parser.add_argument("--trees", type=int, default=60)
    parser.add_argument(
        "--size", type=int, default=1200, help="Side of the virtual regions in pixels of 25 m."
    )
    options = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["virtual"] = [
            virtual(folder / f"{seed}", seed, size_px=options.size, trees=options.trees)
            for seed in range(options.regions if options.data != "lombardy" else 0)
        ]
        data = Path(os.environ.get("TESELA_DATA", "../shared/data")).resolve() / "modis_clc_lombardy"
        if data.exists() and options.data != "virtual":
            found["lombardy"] = lombardy(folder, data, options.trees)
    print(json.dumps(found, indent=2))


def virtual(folder: Path, seed: int, *, size_px: int, trees: int) -> dict[str, object]:
    """Shifts found against known on a virtual region, and errors for one of them."""
    folder.mkdir()
    region = write_coarse_region(folder, size_px=size_px, pixel_m=25.0, seed=seed)
    cube = write_modis_cube(region.composites, folder / "cube.zarr", ancillary=Ancillary(place=False))
    legend = open_legend("sipna-2")
    rows = []
    for shift in SHIFTS:
        moved = move(region.truth, folder / "moved.tif", cube, shift)
        one: dict[str, object] = {"known": shift}
        for psf in ("none", "modis"):
            begun = time.process_time()
            estimate = shift_of(cube, moved, legend=legend, source="corine", psf=psf)
            one[psf] = describe(estimate) | {"cpu_s": round(time.process_time() - begun, 1)}
        rows.append(one)
        print(json.dumps(one), file=sys.stderr, flush=True)
    shift = (0.5, -0.4)
    moved = move(region.truth, folder / "moved.tif", cube, shift)
    errors = compare(cube, moved, legend, "corine", truth=region.truth, trees=trees)
    return {"seed": seed, "shifts": rows, "errors": errors}


def move(truth: Path, out: Path, cube: Cube, shift: tuple[float, float]) -> Path:
    """The reference moved down and right by parts of a cell: the image then lies beside it by as much."""
    cell = cube.grid.affine
    with rasterio.open(truth) as data:
        values, profile, tags, colours = data.read(), data.profile, data.tags(), data.colormap(1)
    pixel = profile["transform"]
    step = Affine.translation(shift[1] * cell.a / pixel.a, shift[0] * cell.e / pixel.e)
    profile = {name: profile[name] for name in ("dtype", "count", "height", "width", "crs", "nodata")}
    with rasterio.open(out, "w", driver="GTiff", transform=pixel * step, **profile) as data:
        data.write(values)
        data.update_tags(**tags)
        data.write_colormap(1, colours)
    return out


def describe(shift: object) -> dict[str, object]:
    names = ("rows", "rows_sd", "cols", "cols_sd", "explained", "explained_unshifted")
    return {name: round(float(getattr(shift, name)), 3) for name in names}


def compare(
    cube: Cube, reference: Path, legend: Legend, source: str, *, truth: Path | None, trees: int
) -> dict[str, object]:
    """Errors of extra trees with labels of each kind."""
    found = {
        psf: shift_of(cube, reference, legend=legend, source=source, psf=psf) for psf in ("none", "modis")
    }
    own, seen = ((found[psf].rows, found[psf].cols) for psf in ("none", "modis"))

    def count(path: Path, **options: object) -> NDArray[np.float64]:
        made = read_fractions(path, like=cube.grid, legend=legend, source=source, **options)  # type: ignore[arg-type]
        made.shares[:, made.cover < 0.999] = np.nan
        return made.shares

    labels = {
        "as they lie": count(reference),
        "shifted": count(reference, shift=own),
        "shifted, psf": count(reference, shift=seen, psf="modis"),
        "unshifted, psf": count(reference, psf="modis"),
    }
    plain = count(truth) if truth is not None else labels["shifted"]
    usable = np.isfinite(plain).all(0)
    for one in labels.values():
        usable &= np.isfinite(one).all(0)
    values = cube.read()
    features = neighbours(values.reshape(-1, *values.shape[2:]))
    usable &= np.isfinite(values).any((0, 1))
    rows, cols = np.nonzero(usable)
    test = ((rows // _BLOCK) + (cols // _BLOCK)) % 2 == 0
    result: dict[str, object] = {"estimated": {name: describe(one) for name, one in found.items()}}
    for name, one in labels.items():
        model = ExtraTreesRegressor(trees, min_samples_leaf=3, max_features=0.3, random_state=0, n_jobs=1)
        model.fit(features[:, rows[~test], cols[~test]].T, one[:, rows[~test], cols[~test]].T)
        made = model.predict(features[:, rows[test], cols[test]].T).T
        scores = {}
        for against, wanted in (("own labels", one), ("plain cells", plain)):
            for level in (1, 2) if legend.depth > 1 else (1,):
                fine = wanted[:, rows[test], cols[test]]
                pair = (
                    [made, fine]
                    if level == legend.depth
                    else [sum_to_level(item, legend, level) for item in (made, fine)]
                )
                error = float(np.sqrt(((pair[0] - pair[1]) ** 2).mean(axis=1)).mean())
                scores[f"{against}, level {level}"] = round(100 * error, 2)
        result[name] = scores
        print(name, json.dumps(scores), file=sys.stderr, flush=True)
    return result


def neighbours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values of 3 x 3 pixels, (9 x values, rows, cols); gaps are -1."""
    padded = np.pad(np.nan_to_num(values, nan=-1), ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    rows, cols = values.shape[1:]
    return np.concatenate([padded[:, i : i + rows, j : j + cols] for i in range(3) for j in range(3)])


def lombardy(folder: Path, data: Path, trees: int) -> dict[str, object]:
    """The real pair: NDVI of 2010 and CORINE."""
    cube = write_stack_cube(
        [data / "modis_ndvi_2010_west.tif"],
        folder / "lombardy.zarr",
        unit=Unit(scale=0.01, nodata=0),
        ancillary=Ancillary(place=False),
    )
    plain = folder / "clc.tif"  # nodata of the original is 255; of ours 0
    with rasterio.open(data / "clc_32632_west.tif") as labels:
        values = labels.read(1)
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 0, "crs": labels.crs}
        size = {"width": labels.width, "height": labels.height, "transform": labels.transform}
    with rasterio.open(plain, "w", **profile, **size) as out:
        out.write(np.where(values == 255, 0, values), 1)
    return compare(cube, plain, open_legend("corine-2"), "corine", truth=None, trees=trees)


if __name__ == "__main__":
    main()
