"""
CORINE 2018 of Lanjaron drawn at 10 m, noised, generalised to 25 ha and 100 m, and vectorised: what is left and sound.

Noise is salt and pepper on a tenth of the pixels and blobs of 3 x 3 pixels on another tenth. Gaps and overlaps of the
polygons are asked of shapely. Needs the real data (TESELA_DATA or ../shared/data). Prints one JSON document;
``--picture FILE`` draws the four steps.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.legend import Legend
from tesela.generalise.generalise import generalise_map
from tesela.generalise.vectorise import polygons_of
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map
from tesela.io.vector import open_layer
from tesela.labels.masks import write_labels

DATA = Path(os.environ.get("TESELA_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SOURCE = DATA / "lanjaron_l8_clc" / "clc2018_lanjaron.gpkg"
MMU_M2 = 250_000.0
WIDTH_M = 100.0
SIMPLIFY_M = 20.0


def pixels(source: ClassMap) -> NDArray[np.uint8]:
    with rasterio.open(source.path) as data:
        return data.read(1)


def noised(values: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    noisy = values.copy()
    known = np.array([value for value in legend.values if (values == value).any()], np.uint8)
    rows, cols = values.shape
    coarse = random.random((-(-rows // 3), -(-cols // 3))) < 0.1
    blob = np.kron(coarse, np.ones((3, 3), bool))[:rows, :cols]
    other = np.kron(random.choice(known, coarse.shape), np.ones((3, 3), np.uint8))[:rows, :cols]
    noisy[blob] = other[blob]
    hit = random.random(values.shape) < 0.1
    noisy[hit] = random.choice(known, int(hit.sum()))
    noisy[values == 0] = 0
    return noisy


def draw(path: Path, maps: list[tuple[str, object]], legend: Legend) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    table = ["#ffffff"] + ["#ffffff"] * 254
    for item in legend.classes:
        table[item.value] = item.color
    figure, axes = plt.subplots(1, len(maps), figsize=(3.2 * len(maps), 5.3), constrained_layout=True)
    for axis, (title, shown) in zip(axes, maps, strict=True):
        axis.set_title(title, fontsize=10)
        axis.axis("off")
        if isinstance(shown, np.ndarray):
            axis.imshow(shown, cmap=ListedColormap(table), vmin=0, vmax=254, interpolation="nearest")
        else:
            colors = [legend[code].color for code in shown["code"]]
            shown.plot(ax=axis, color=colors, edgecolor="#222222", linewidth=0.4, aspect="equal")
            left, bottom, right, top = shown.total_bounds
            axis.set(xlim=(left, right), ylim=(bottom, top))
    figure.savefig(path, dpi=90, pil_kwargs={"optimize": True})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if not SOURCE.exists():
        sys.exit(f"The real data are not at {DATA}; set TESELA_DATA.")
    legend = open_legend("corine-3")
    left, bottom, right, top = open_layer(SOURCE, layer="clc").bounds
    grid = GeoBox(
        (int((top - bottom) / 10), int((right - left) / 10)), Affine(10, 0, left, 0, -10, top), "EPSG:25830"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        true = write_labels(SOURCE, folder / "true.tif", like=grid, legend=legend, layer="clc")
        truth = pixels(true)
        noisy = write_map(folder / "noisy.tif", noised(truth, legend), grid, legend=legend)
        made, ledger = generalise_map(
            noisy, folder / "made.tif", mmu_m2=MMU_M2, min_width_m=WIDTH_M, priority="auto"
        )
        values = pixels(made)
        plain, frame = polygons_of(made), polygons_of(made, simplify_m=SIMPLIFY_M)
        report: dict[str, object] = {
            "pixels": int((truth > 0).sum()),
            "classes": int((np.bincount(truth.ravel())[1:] > 0).sum()),
            "noisy_pixels_right": float((pixels(noisy) == truth)[truth > 0].mean()),
            "generalised_pixels_right": float((values == truth)[truth > 0].mean()),
            "areas": {
                "corine": len(polygons_of(true)),
                "noised": len(polygons_of(noisy)),
                "generalised": len(plain),
            },
            "areas_under_the_unit": {
                reason: sum(item.areas for item in ledger.below if item.reason == reason)
                for reason in sorted({item.reason for item in ledger.below})
            },
        }
        for name, found in (("polygons", plain), (f"polygons_simplified_by_{SIMPLIFY_M:g}_m", frame)):
            shapes = found.geometry.to_numpy()
            union = shapely.union_all(shapes)
            report[name] = {
                "valid": int(shapely.is_valid(shapes).sum()),
                "coverage_is_valid": bool(shapely.coverage_is_valid(shapes)),
                "overlaps_ha": round(float(shapely.area(shapes).sum() - shapely.area(union)) / 1e4, 6),
                "gaps_ha": round(((truth > 0).sum() * 100 - float(shapely.area(union))) / 1e4, 6),
                "holes_in_union": sum(len(part.interiors) for part in shapely.get_parts(union)),
                "corners": int(shapely.get_num_coordinates(shapes).sum()),
                "smallest_ha": round(float(found["area_ha"].min()), 2),
            }
        if options.picture is not None:
            steps = [
                ("CORINE 2018 at 10 m", truth),
                ("noised", pixels(noisy)),
                ("generalised: 25 ha, 100 m", values),
                ("polygons, simplified by 20 m", frame),
            ]
            draw(options.picture, steps, legend)
    print(json.dumps(report, indent=2, default=str))


if __name__ == "__main__":
    main()
