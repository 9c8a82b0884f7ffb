"""
Unmixing on real data: twelve monthly MODIS NDVI composites and exact CORINE shares of Lombardy.

    .venv/bin/python benchmarks/real_unmixing.py [--seeds 0 1 2 3 4] [--rows ours ...] [--epochs 40]
        [--published-epochs 200] [--minutes 0] [--gaps 0 0.2 0.4] [--out real_unmixing.json]

Needs ../shared/data/modis_clc_lombardy (or TESELA_DATA). The shares of each 500 m cell are exact areas of a 100 m map:
four classes at level 1, eight at a merged level 2. Blocks of 18 x 15 km are shared out to train, validation and test.
Of each training and validation pixel 0, 20 or 40 % of the months are hidden, by lot; test pixels are scored with 0,
20 and 40 % hidden. All models get the same pixels. BRITS as published is trained at each level by itself, as in the
paper, with its settings and epochs; all others are trained at level 2, and level 1 is the sum.

Rows whose names begin with "trees" are challengers from scikit-learn that are no models of Tesela: extra trees on the
series of 3 x 3 pixels, and the same with means and deviations over 5, 9 and 17 pixels. "trees, shifted, wide" resamples
the series by a fifth of a pixel first, and takes the means alone. "tempcnn + trees, wide" is the plain average of the
network and these trees; "tempcnn, 5 x 5, wide" and "wider" get the windows as layers. --shift counts the shares in
cells moved by what `shift = "auto"` estimates. With --minutes no row begins after so many processor minutes. Prints
JSON; with --out the file is written after each row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from tesela.assessment.abundance.scores import SCORES, AbundanceSums
from tesela.core.legend import Legend
from tesela.io.legends import open_legend
from tesela.io.raster import grid_of
from tesela.labels.fractions import read_fractions
from tesela.models.expert import Expert
from tesela.patches.pixel_split import split_pixels
from tesela.patches.pixels import NO_SPLIT, PixelTable
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import PUBLISHED_EPOCHS, UnmixingSettings
from tesela.training.unmixing.train import train_unmixing

GAPS = (0.0, 0.2, 0.4)
GROUPS = {
    "11": ("1", "Urban fabric and green", ("11", "14")),
    "12": ("1", "Industry, transport, mines", ("12", "13")),
    "21": ("2", "Arable land", ("21",)),
    "22": ("2", "Permanent crops, pastures, mosaics", ("22", "23", "24")),
    "31": ("3", "Forests", ("31",)),
    "32": ("3", "Shrub and herbaceous", ("32",)),
    "33": ("3", "Open spaces", ("33",)),
    "51": ("4", "Water and wetlands", ("41", "42", "51", "52")),
}
"""Merged level 2: code to parent, name and the classes of CORINE level 2."""
PARENTS = {"1": "Artificial", "2": "Agricultural", "3": "Forest and semi natural", "4": "Water and wetlands"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--published-epochs", type=int, default=PUBLISHED_EPOCHS)
    parser.add_argument("--rows", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--gaps", type=float, nargs="+", default=list(GAPS))
    parser.add_argument("--minutes", type=float, default=0, help="processor time in all; 0: no limit")
    parser.add_argument(
        "--shift",
        action="store_true",
        help="shares of cells moved by the estimated shift, to train and to test",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="JSON file, written after each row")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pixels = read_table(data_folder(), shift=LOMBARDY_SHIFT if options.shift else (0.0, 0.0))
    runs: list[dict[str, object]] = []
    for seed in options.seeds:
        table = split_pixels(pixels, seed=seed)
        taught = hide_months(table, seed=seed)
        kept: dict[str, Expert] = {}
        for name in options.rows:
            if options.minutes and time.process_time() > 60 * options.minutes:
                break
            begun = time.process_time()
            epochs = options.published_epochs if name == PUBLISHED else options.epochs
            experts = MODELS[name](taught, seed, epochs, kept)
            seconds = time.process_time() - begun
            for gap in options.gaps:
                scores = test_experts(experts, table, gap=gap, seed=seed)
                runs.append({"model": name, "seed": seed, "gap": gap, "cpu_s": round(seconds, 1), **scores})
            notes = [
                {key: expert.header.scores.get(key) for key in ("curve", "weights", "tried")}
                for expert in experts
                if isinstance(expert, Expert)
            ]
            print(
                json.dumps({"runs": runs[-len(options.gaps) :], "notes": notes}), file=sys.stderr, flush=True
            )
            text = json.dumps({"pixels": table.counts, "runs": runs, "means": means(runs)}, indent=2)
            if options.out:
                Path(options.out).write_text(text + "\n", encoding="utf-8")
    if not options.out:
        print(text)


def data_folder() -> Path:
    """Folder of the MODIS series and CORINE of Lombardy."""
    data = Path(os.environ.get("TESELA_DATA", "../shared/data")).resolve() / "modis_clc_lombardy"
    if not data.exists():
        sys.exit(f"No data at {data}: set TESELA_DATA to the folder that holds modis_clc_lombardy.")
    return data


def legend_of() -> Legend:
    rows = [
        {"level": "1", "value": code, "code": code, "name": name, "color": "#808080"}
        for code, name in PARENTS.items()
    ]
    for value, (code, (parent, name, _)) in enumerate(GROUPS.items(), start=1):
        row = {
            "level": "2",
            "value": str(value),
            "code": code,
            "name": name,
            "color": "#808080",
            "parent": parent,
        }
        rows.append(row)
    return Legend.from_rows("lombardy", rows)


def read_table(data: Path, *, shift: tuple[float, float] = (0.0, 0.0)) -> PixelTable:
    """All cells that the map covers, with their NDVI (0 is a gap) and exact shares."""
    with rasterio.open(data / "modis_ndvi_2010_west.tif") as image:
        ndvi, grid = image.read().astype(np.float32), grid_of(image)
    ndvi[ndvi == 0] = np.nan
    corine, legend = open_legend("corine-3"), legend_of()
    with tempfile.TemporaryDirectory() as folder, rasterio.open(data / "clc_32632_west.tif") as labels:
        plain = Path(folder) / "clc.tif"  # nodata of the original is 255; of ours 0
        values = labels.read(1)
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 0, "crs": labels.crs}
        size = {"width": labels.width, "height": labels.height, "transform": labels.transform}
        with rasterio.open(plain, "w", **profile, **size) as out:
            out.write(np.where(values == 255, 0, values), 1)
        found = read_fractions(plain, like=grid, legend=corine, shift=shift)
    shares = np.stack(
        [
            found.shares[[i for i, code in enumerate(corine.codes) if code[:2] in parts]].sum(0)
            for _, _, parts in GROUPS.values()
        ]
    )
    kept = (found.cover > 0.999) & np.isfinite(ndvi).any(0)
    rows, cols = np.nonzero(kept)
    return PixelTable(
        values=np.ascontiguousarray(ndvi[:, kept].T[..., None]),
        static=np.zeros((len(rows), 0), np.float32),
        targets=shares[:, kept].T.astype(np.float32),
        rows=rows.astype(np.int32),
        cols=cols.astype(np.int32),
        splits=np.full(len(rows), NO_SPLIT, np.uint8),
        times=tuple(f"2010-{month:02d}" for month in range(1, 13)),
        bands=("ndvi",),
        layers=(),
        legend=legend,
        grid=grid,
    )


def hide_months(table: PixelTable, *, seed: int, gap: float | None = None) -> PixelTable:
    """Hide a share of the months; by default 0, 20 or 40 % of each pixel's, by lot."""
    generator = np.random.default_rng(1000 + seed)
    rate = generator.choice(GAPS, len(table)) if gap is None else np.full(len(table), gap)
    hidden = generator.random(table.values.shape[:2]) < rate[:, None]
    return replace(table, values=np.where(hidden[..., None], np.float32(np.nan), table.values))


class Predictor(Protocol):
    """Predicts the shares of pixels of a table."""

    def __call__(self, table: PixelTable, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(pixels, classes) shares of the chosen pixels."""
        ...


Maker = Callable[[PixelTable, int, int, dict[str, Expert]], Sequence[Expert | Predictor]]


def published(table: PixelTable, seed: int, epochs: int, kept: dict[str, Expert]) -> list[Expert]:
    settings = UnmixingSettings(published=True, epochs=epochs, seed=seed)
    return [train_unmixing(table.at_level(level), settings) for level in (1, 2)]


def single(**options: object) -> Maker:
    """One expert of these settings, for both levels."""

    def make(table: PixelTable, seed: int, epochs: int, kept: dict[str, Expert]) -> list[Expert]:
        settings = UnmixingSettings(epochs=epochs, seed=seed, **options)  # type: ignore[arg-type]
        expert = train_unmixing(table, settings)
        kept["-".join(str(value) for value in options.values())] = expert
        return [expert]

    return make


class WideTrees:
    """
    Extra trees on the series of 3 x 3 pixels, with the means and deviations of the year's series over wider windows.

    Parameters
    ----------
    sides : tuple of int
        Sides of the windows in pixels; none: the 3 x 3 series alone.
    shift : float
        Part of a pixel by which the series are resampled, down and to the right, before anything is taken of them.
    deviations : bool
        Deviations in the windows, besides the means.
    """

    def __init__(
        self,
        table: PixelTable,
        seed: int,
        *,
        sides: tuple[int, ...],
        shift: float = 0.0,
        deviations: bool = True,
    ) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        self.sides, self.shift, self.deviations = sides, shift, deviations
        train = table.splits == 0
        trees = ExtraTreesRegressor(100, min_samples_leaf=3, max_features=1 / 3, n_jobs=1, random_state=seed)
        self.trees = trees.fit(self.features(table)[train], table.targets[train])

    def __call__(self, table: PixelTable, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `Predictor`."""
        shares = np.maximum(self.trees.predict(self.features(table)[chosen]), 0)
        return (shares / shares.sum(1, keepdims=True)).astype(np.float32)

    def features(self, table: PixelTable) -> NDArray[np.float32]:
        """(pixels, features); gaps are -1."""
        image = image_of(table)
        if self.shift:
            image = resampled(image, self.shift)
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        columns = [padded[:, table.rows + y, table.cols + x].T for y in range(3) for x in range(3)]
        for side in self.sides:
            mean, deviation = window_moments(image, side)
            moments = (mean, deviation) if self.deviations else (mean,)
            columns += [one[:, table.rows, table.cols].T for one in moments]
        return np.nan_to_num(np.concatenate(columns, axis=1), nan=-1)


def image_of(table: PixelTable) -> NDArray[np.float32]:
    """(months, rows, cols) series of the table's pixels; NaN elsewhere."""
    assert table.grid is not None
    rows, cols = (int(side) for side in table.grid.shape)
    image = np.full((table.values.shape[1], rows, cols), np.nan, np.float32)
    image[:, table.rows, table.cols] = table.values[..., 0].T
    return image


def resampled(image: NDArray[np.float32], shift: float) -> NDArray[np.float32]:
    """Bilinear values of each band beside each pixel, down and to the right; gaps have no weight."""
    from scipy.ndimage import shift as moved

    seen = np.isfinite(image)
    step = (0, -shift, -shift)  # of the content: up and left
    weight = moved(seen.astype(np.float32), step, order=1, mode="constant")
    value = moved(np.where(seen, image, 0), step, order=1, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight >= 0.5, value / weight, np.float32(np.nan)).astype(np.float32)


def window_moments(image: NDArray[np.float32], side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of the observed values of each band in a square window."""
    from scipy.ndimage import uniform_filter

    seen = np.isfinite(image)
    filled = np.where(seen, image, 0).astype(np.float64)
    size = (1, side, side)
    weight = uniform_filter(seen.astype(np.float64), size, mode="constant")
    weight[weight < 0.5 / side**2] = 0  # rounding of sums that run along the rows
    first, second = (uniform_filter(part, size, mode="constant") for part in (filled, filled**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = first / weight
        deviation = np.sqrt(np.maximum(second / weight - mean**2, 0))
    return mean.astype(np.float32), deviation.astype(np.float32)


def trees(*sides: int, shift: float = 0.0, deviations: bool = True) -> Maker:
    """Challenger of extra trees with windows of these sides."""

    def make(table: PixelTable, seed: int, epochs: int, kept: dict[str, Expert]) -> list[Predictor]:
        made = WideTrees(table, seed, sides=sides, shift=shift, deviations=deviations)
        if not shift:
            kept["-".join(map(str, ("trees", *sides)))] = made  # type: ignore[assignment]
        return [made]

    return make


def widened(*sides: int) -> Maker:
    """The network with neighbours, given means and deviations of the year's series in windows as layers."""

    def layers_of(table: PixelTable) -> PixelTable:
        parts = [
            moments[:, table.rows, table.cols].T
            for side in sides
            for moments in window_moments(image_of(table), side)
        ]
        static = np.concatenate(parts, axis=1).astype(np.float32)
        return replace(table, static=static, layers=tuple(f"window{n}" for n in range(static.shape[1])))

    def make(table: PixelTable, seed: int, epochs: int, kept: dict[str, Expert]) -> list[Predictor]:
        settings = UnmixingSettings(model="tempcnn", context=2, epochs=epochs, seed=seed)
        network = train_unmixing(layers_of(table), settings, quiet=True)

        def predict(table: PixelTable, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
            return unmix_pixels(network, layers_of(table), chosen).shares

        return [predict]

    return make


def averaged(table: PixelTable, seed: int, epochs: int, kept: dict[str, Expert]) -> list[Predictor]:
    """Plain average of the network with neighbours and the trees with wide windows."""
    plan = UnmixingSettings(model="tempcnn", context=2, epochs=epochs, seed=seed)
    network = kept.get("tempcnn-2") or train_unmixing(table, plan, quiet=True)
    wide = kept.get("trees-5-9-17") or WideTrees(table, seed, sides=(5, 9, 17))

    def predict(table: PixelTable, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        own = unmix_pixels(network, table, chosen).shares
        return (own + wide(table, chosen)) / 2  # type: ignore[operator]

    return [predict]


PUBLISHED = "brits as published"
LOMBARDY_SHIFT = (0.196, 0.257)
"""Rows and columns, in cells, that `shift = "auto"` estimates: benchmarks/sensor_geometry.py --regions 0."""
MODELS: dict[str, Maker] = {
    "fclsu": single(model="fclsu"),
    "nnls": single(model="nnls"),
    "mlp": single(model="mlp", context=0),
    "forest, pixel": single(model="forest", context=0, windows=(), trees=100),
    "forest, 3 x 3": single(model="forest", context=1, windows=(), trees=100),
    "forest, wide": single(model="forest", context=1, windows=(5, 9, 17), trees=100),
    "boosting": single(model="boosting", context=0, windows=(), trees=100),
    "boosting, 3 x 3": single(model="boosting", context=1, windows=(), trees=100),
    "boosting, wide": single(model="boosting", context=1, windows=(5, 9, 17), trees=100),
    "boosting, wide, no neighbours": single(model="boosting", context=0, windows=(5, 9, 17), trees=100),
    "tempcnn, 5 x 5": single(model="tempcnn", context=2),
    "tempcnn, 5 x 5, wide": widened(5, 9, 17),
    "tempcnn, 5 x 5, wider": widened(9, 33),
    "tempcnn, 5 x 5, dirichlet": single(model="tempcnn", context=2, head="dirichlet"),
    "auto, 1 min": single(model="auto", trees=100, budget="1 min"),
    "auto, 3 min": single(model="auto", trees=100, budget="3 min"),
    "auto, 10 min": single(model="auto", trees=100, budget="10 min"),
    "ours": single(members=("mlp", "mlp", "mlp", "tempcnn", "forest"), context=2, trees=100),
    "trees, 3 x 3": trees(),
    "trees, wide": trees(5, 9, 17),
    "trees, shifted, wide": trees(5, 9, 17, shift=0.2, deviations=False),
    "tempcnn + trees, wide": averaged,
    PUBLISHED: published,
    "brits, ours": single(model="brits"),
}


def test_experts(
    experts: Sequence[Expert | Predictor], table: PixelTable, *, gap: float, seed: int
) -> dict[str, dict[str, float]]:
    """Scores on the test pixels, at both levels."""
    shown = hide_months(table, seed=10 + seed, gap=gap)
    test = table.splits == 2
    found = {}
    for level in (1, 2):
        expert = experts[min(level, len(experts)) - 1]
        shares = (
            unmix_pixels(expert, shown, test).shares if isinstance(expert, Expert) else expert(shown, test)
        )
        seen = np.isfinite(shares).all(1)  # pixels of which all months are hidden have none
        wanted, shares = table.take(np.flatnonzero(test)[seen]), shares[seen]
        if shares.shape[1] > len(table.at_level(level).legend or ()):
            shares = replace(wanted, targets=shares).at_level(level).targets
        coarse = wanted.at_level(level)
        assert coarse.legend is not None
        sums = AbundanceSums.of(coarse.legend, coarse.targets, shares)
        found[f"level {level}"] = {name: round(sums.mean(name), 4) for name in SCORES}
    return found


def means(runs: list[dict[str, object]]) -> dict[str, object]:
    """Means over the seeds, by model and gap."""
    out: dict[str, object] = {}
    for run in runs:
        for level in ("level 1", "level 2"):
            same = [r[level] for r in runs if (r["model"], r["gap"]) == (run["model"], run["gap"])]
            key = f"{run['model']}, {run['gap']:.0%} hidden, {level}"
            out[key] = {name: round(statistics.mean(s[name] for s in same), 4) for name in same[0]}  # type: ignore[index,attr-defined]
    return out


if __name__ == "__main__":
    main()
