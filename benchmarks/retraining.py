"""
Review to retraining: the score of a map on truth against the hectares that a reviewer looked at, ranked and at random.

    .venv/bin/python benchmarks/retraining.py [--seeds 0 1] [--size-px 480] [--picture docs/images/retraining.png]

Virtual regions of 10 m with two Sentinel-2 dates, in square blocks of 400 m that are dealt out at random. 40 % of them
are the test area: they have no labels, and maps are scored there against the truth, CORINE level 2. The reviewer always
gives the class with the largest true share of what is shown. Each row is a whole run of a recipe of the corine chain
(boosted trees, the same seed) with these answers in [[corrections]].

mistakes: the other 60 % has a reference in which about a quarter of the area has a wrong class (confused or outdated).
Its polygons are reviewed in the order of `tesela update` by the first map, or at random.

unlabelled: 6 % has that reference, without mistakes. In the 54 % between, areas of one class of the first map are
reviewed: the most uncertain by `tesela review rank --probabilities`; the same with the classes in turn, rare ones
more often than they occur; or at random: any area of each block, in random order.

Prints one JSON document: hectares reviewed, accuracy and macro F1, each seed and the mean.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import geometry_mask, shapes

from tesela.assessment.confusion import count_confusion
from tesela.assessment.scores import score
from tesela.chains.run import run_recipe
from tesela.generalise.labelling import label_regions
from tesela.generalise.uncertain_areas import rank_areas
from tesela.generalise.uncertainty import UncertaintyFiles
from tesela.generalise.update import evaluate_polygons
from tesela.io.layers import write_layer
from tesela.io.legends import open_legend
from tesela.io.manifest import write_whole
from tesela.io.maps import ScoreWriter, open_map, write_map
from tesela.io.vector import open_layer
from tesela.pages.plots import new_figure, plain_axes, png_of, put_title
from tesela.simulate.region.landscape import Landscape, make_landscape
from tesela.simulate.region.references import make_reference
from tesela.simulate.region.sensors import simulate_image, write_image
from tesela.simulate.region.surface import lay_surface

LEGEND = open_legend("corine-2")
SEASONS = ("april", "july")
TEST, LABELLED = 0.4, {"mistakes": 0.6, "unlabelled": 0.06}
"""Shares of the region that are tested, and that have a reference."""
ROLE_PX = 40
REVIEWED = {"mistakes": (0.1, 0.3, 1.0), "unlabelled": (0.02, 0.05, 0.1)}
"""Shares of the area to review."""
BLOCK_PX = 16
RECIPE = """
chain = "corine"
name = "region"
out = "{name}"
legend = "corine-2"
[[scenes]]
name = "region"
paths = ["april.tif", "july.tif"]
dates = ["april", "july"]
[reference]
path = "{reference}.gpkg"
field = "CODE_18"
[patches]
size_px = 32
min_labelled = 0.02
split = "random"
fractions = [0.7, 0.2, 0.1]
[training]
model = "boosting"
pixels = 10000
trees = 60
window_sides_px = [3, 7]
prior = 0
[mapping]
probabilities = true
"""


class Region:
    """A virtual region on disk, and its truth."""

    def __init__(self, folder: Path, *, seed: int, size_px: int) -> None:
        self.folder = folder
        land: Landscape = make_landscape(size_px=size_px, seed=seed)
        surface = lay_surface(land)
        for season in SEASONS:
            write_image(
                simulate_image(land, season, surface=surface, clouds="none"), folder / f"{season}.tif"
            )
        self.grid = land.grid
        self.truth = open_legend("corine-3").level_table(2)[land.truth]
        across = size_px // ROLE_PX
        dealt = np.random.default_rng(seed).permutation(across**2).reshape(across, across) / across**2
        self.place = np.kron(dealt, np.ones((ROLE_PX, ROLE_PX)))
        """0 to 1: labelled blocks first, test area last."""
        for name, errors in (("mistakes", 0.15), ("unlabelled", 0.0)):
            made = make_reference(land, min_area_ha=1.0, label_errors=errors, outdated=errors * 2 / 3)
            polygons = made.polygons[["CODE_18", "geometry"]].to_crs(str(land.grid.crs))
            labelled = (self.place < LABELLED[name]).astype(np.uint8)
            blocks = shapes(labelled, mask=labelled == 1, transform=land.grid.affine)
            area = shapely.union_all([shapely.geometry.shape(shape) for shape, _ in blocks])
            clipped = gpd.clip(polygons, area, keep_geom_type=True).explode(ignore_index=True)
            write_layer(folder / f"{name}.gpkg", clipped.reset_index(drop=True), layer="reference")

    @property
    def test(self) -> NDArray[np.bool_]:
        """The test area."""
        return self.place >= 1 - TEST

    def answer(self, shape: shapely.Geometry) -> str:
        """True class with the largest share of an area; empty where it holds no pixel centre."""
        inside = geometry_mask([shape], self.grid.shape, self.grid.affine, invert=True)
        counts = np.bincount(self.truth[inside], minlength=256)
        codes = dict(zip(LEGEND.values, LEGEND.codes, strict=True))
        return codes.get(int(counts.argmax()), "") if counts.any() else ""

    def run(self, name: str, reference: str, reviewed: gpd.GeoDataFrame | None) -> dict[str, float]:
        """Run a recipe with corrections and score its map on the test area."""
        text = RECIPE.format(name=name, reference=reference)
        if reviewed is not None:
            write_layer(self.folder / f"{name}.gpkg", reviewed, layer="reviewed")
            text += f'[[corrections]]\npath = "{name}.gpkg"\nfield = "code"\n'
        recipe = self.folder / f"{name}.toml"
        recipe.write_text(text, encoding="utf-8")
        run_recipe(recipe, until="map", quiet=True)
        with rasterio.open(self.map_of(name)) as data:
            values = data.read(1)
        counts = count_confusion(self.truth[self.test], values[self.test], LEGEND)
        scores = score(counts)
        return {"accuracy": round(float(scores.accuracy), 4), "macro_f1": round(float(scores.macro_f1), 4)}

    def map_of(self, name: str, kind: str = "") -> Path:
        """A map of a run, or what lies beside it."""
        return self.folder / name / "maps" / f"region{kind}.tif"


def reviewed_first(region: Region, frame: gpd.GeoDataFrame, hectares: float) -> gpd.GeoDataFrame:
    """The first rows of a frame up to some hectares, with the answers of the reviewer."""
    area = frame.geometry.area.to_numpy() / 1e4
    chosen = frame[np.cumsum(area) - area / 2 <= hectares]
    codes = [region.answer(shape) for shape in chosen.geometry]
    kept = gpd.GeoDataFrame({"code": codes}, geometry=chosen.geometry.to_numpy(), crs=frame.crs)
    return kept[kept["code"] != ""].reset_index(drop=True)


def mistakes_orders(region: Region, start: str, rng: np.random.Generator) -> dict[str, gpd.GeoDataFrame]:
    """Polygons of the reference in the order of the update, and in random order."""
    layer = open_layer(region.folder / "mistakes.gpkg")
    ranked = evaluate_polygons(layer, open_map(region.map_of(start)), field="CODE_18").to_crs(
        str(region.grid.crs)
    )
    return {"tesela update": ranked, "random": ranked.iloc[rng.permutation(len(ranked))]}


def area_orders(region: Region, start: str, rng: np.random.Generator) -> dict[str, gpd.GeoDataFrame]:
    """Areas of the first map between reference and test area, by uncertainty and at random."""
    source = open_map(region.map_of(start))
    labels = region.folder / "elsewhere.tif"
    elsewhere = region.test | (region.place < LABELLED["unlabelled"])
    write_map(labels, np.where(elsewhere, LEGEND.values[0], 0).astype(np.uint8), region.grid, legend=LEGEND)
    with rasterio.open(source.path) as data:
        numbers, count = label_regions(data.read(1))
    chance = rng.integers(0, 101, count + 1).astype(np.uint8)[numbers]
    with ScoreWriter(
        region.folder / "chance.tif", region.grid, ["confidence"], scale=1.0, unit="%"
    ) as writer:
        writer.write(0, 0, chance)

    def queue(files: UncertaintyFiles) -> gpd.GeoDataFrame:
        out = region.folder / "queue.gpkg"
        return rank_areas(source, out, files, labels=labels, block_px=BLOCK_PX, most=10_000).frame

    ranked = queue(UncertaintyFiles(probabilities=region.map_of(start, "_probabilities")))
    drawn = queue(UncertaintyFiles(confidence=region.folder / "chance.tif"))
    return {
        "tesela review rank": ranked,
        "classes in turn": in_turn(ranked),
        "random": drawn.iloc[rng.permutation(len(drawn))],
    }


def in_turn(ranked: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The i-th most uncertain area of a class with the share s of all comes at place i / sqrt(s)."""
    groups = ranked.groupby("old_code")["uncertainty"]
    place = groups.rank(ascending=False, method="first") / np.sqrt(groups.transform("size") / len(ranked))
    return ranked.iloc[np.argsort(place.to_numpy(), kind="stable")]


ORDERS = {"unlabelled": area_orders, "mistakes": mistakes_orders}


def measure(
    seed: int, size_px: int, experiments: Sequence[str]
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Curves of one region, by experiment and order; the first point of each is without a review."""
    curves: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        region = Region(Path(name), seed=seed, size_px=size_px)
        rng = np.random.default_rng(seed)
        for experiment in experiments:
            first = {"reviewed_ha": 0.0, "polygons": 0, **region.run(experiment + "-0", experiment, None)}
            pool = 1 - TEST - (0 if experiment == "mistakes" else LABELLED[experiment])
            pool_ha = pool * size_px**2 / 100
            orders = ORDERS[experiment](region, experiment + "-0", rng)
            curves[experiment] = {order: [first] for order in orders}
            whole: dict[str, float] | None = None
            for order, frame in orders.items():
                for share in REVIEWED[experiment]:
                    if share == 1 and whole is not None:  # in any order the same
                        curves[experiment][order].append(whole)
                        continue
                    reviewed = reviewed_first(region, frame, share * pool_ha)
                    run = f"{experiment}-{order}-{share:g}".replace(" ", "-")
                    point = {
                        "reviewed_ha": round(float(reviewed.geometry.area.sum()) / 1e4, 1),
                        "polygons": len(reviewed),
                        **region.run(run, experiment, reviewed),
                    }
                    curves[experiment][order].append(point)
                    whole = point if share == 1 else whole
                    print(json.dumps({"seed": seed, "run": run, **point}), flush=True)
    return curves


def mean_of(curves: Sequence[list[dict[str, float]]], key: str) -> NDArray[np.float64]:
    return np.asarray(np.mean([[point[key] for point in curve] for curve in curves], axis=0))


def draw(document: dict[str, object], path: Path) -> None:
    """Draw the mean curves."""
    means: dict[str, dict[str, dict[str, list[float]]]] = document["mean"]  # type: ignore[assignment]
    figure = new_figure(8.4, 3.2)
    titles = {"mistakes": "Wrong labels corrected", "unlabelled": "Areas without labels"}
    colours = {"random": "#777777", "classes in turn": "#56b4e9"}
    for number, (experiment, orders) in enumerate(means.items(), start=1):
        axes = figure.add_subplot(1, len(means), number)
        for order, curve in orders.items():
            axes.plot(
                curve["reviewed_ha"], curve["accuracy"], "o-", ms=4, lw=1.5, label=order,
                color=colours.get(order, "#0072b2"),
            )  # fmt: skip
        axes.set_xlabel("reviewed, ha")
        axes.set_ylabel("accuracy on truth, test area")
        axes.legend(frameon=False)
        put_title(axes, titles[experiment])
        plain_axes(axes)
        axes.grid(axis="y", lw=0.4, color="#cccccc")
    with write_whole(path) as part:
        part.write_bytes(png_of(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size-px", type=int, default=480)
    parser.add_argument("--experiments", nargs="+", default=list(ORDERS), choices=list(ORDERS))
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    logging.getLogger("tesela.notes").setLevel(logging.ERROR)
    start = time.process_time()
    regions = [measure(seed, options.size_px, options.experiments) for seed in options.seeds]
    means = {
        experiment: {
            order: {
                key: mean_of([region[experiment][order] for region in regions], key).round(4).tolist()
                for key in ("reviewed_ha", "polygons", "accuracy", "macro_f1")
            }
            for order in regions[0][experiment]
        }
        for experiment in options.experiments
    }
    document: dict[str, object] = {
        "seeds": options.seeds,
        "cpu_seconds": round(time.process_time() - start),
        "mean": means,
        "regions": regions,
    }
    print(json.dumps(document, indent=1))
    if options.picture:
        draw(document, options.picture)


if __name__ == "__main__":
    main()
