"""
Change between two images: the difference of two maps against the odds of the probabilities.

    .venv/bin/python benchmarks/change.py [--seeds 0 1 2] [--size-px 512] [--model boosting] [--budget "1 min"]
        [--share 0.03] [--areas 0 0.5 5] [--out change.json]

Virtual regions at two dates with known change (`write_region_pair`): crops in other states, other noise, and a share of
the land in another class. An expert is trained on another region (seed + 100, its first date, LULUCF categories) and
maps both dates. Rows: pixels whose class differs; those of which both confidences are at least 50 % (a rule that
Tesela had); those with odds of at least 3, 10, 30. Changes of fewer hectares than --areas are left out. Scores of the
changed pixels against the truth: precision, recall, F1, mapped by true area; and the accuracy of the later map,
which is the earlier one with the changes in it. Prints JSON with each seed and the means.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from tesela.accounting.changes import map_change_layer
from tesela.core.legend import NODATA
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend
from tesela.io.maps import MapReader, convert_map, open_map, write_map
from tesela.io.scenes import open_scene
from tesela.mapping.predict import predict_map
from tesela.models.expert import open_expert
from tesela.patches.split import split_patches
from tesela.patches.table import make_patches
from tesela.simulate.region.change import write_region_pair
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.train import train_segmentation

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
DATES = ("before", "after")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--model", default="boosting")
    parser.add_argument("--budget", default="")
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--areas", type=float, nargs="+", default=[0, 0.5, 5], help="hectares")
    parser.add_argument("--out")
    options = parser.parse_args()
    runs: list[dict[str, object]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as name:
            runs += [{"seed": seed, **row} for row in run(Path(name), seed, options)]
        print(json.dumps([row for row in runs if row["seed"] == seed]), file=sys.stderr, flush=True)
    text = json.dumps({"runs": runs, "means": means(runs)}, indent=1)
    print(text)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")


def run(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, object]]:
    """Rows of one pair of regions."""
    size = {"size_px": options.size_px, "share": options.share, "bands": BANDS}
    training_region = write_region_pair(folder / "training_region", seed=seed + 100, **size)
    pair = write_region_pair(folder / "pair", seed=seed, **size)
    to_lulucf = open_crosswalk("corine-3", open_legend("lulucf"))
    labels = convert_map(open_map(training_region.truth_before), folder / "labels.tif", crosswalk=to_lulucf)
    table = make_patches([open_scene(training_region.before[0])], [labels], size_px=64)
    table = split_patches(table, block_m=640, seed=seed)
    settings = SegmentationSettings(model=options.model, budget=options.budget, seed=seed)
    expert = train_segmentation(table, folder / "e.safetensors", settings=settings, quiet=True)
    truth, maps, sure, scenes = [], [], [], []
    for date, image, known in zip(
        DATES, (pair.before[0], pair.after[0]), (pair.truth_before, pair.truth_after), strict=True
    ):
        of_date = convert_map(open_map(known), folder / f"truth_{date}.tif", crosswalk=to_lulucf)
        truth.append(values_of(of_date.path))
        outputs = {kind: folder / f"{kind}_{date}.tif" for kind in ("confidence", "probabilities")}
        predict_map(
            open_expert(expert), open_scene(image), folder / f"map_{date}.tif", any_scene=True, **outputs
        )
        maps.append(open_map(folder / f"map_{date}.tif"))
        scenes.append(open_scene(outputs["probabilities"]))
        with rasterio.open(outputs["confidence"]) as data:
            sure.append(data.read(1))
    confident = folder / "confident.tif"
    early, late = (values_of(item.path) for item in maps)
    kept = np.where((sure[0] >= 50) & (sure[1] >= 50), late, early)
    write_map(confident, kept, maps[1].grid, legend=open_legend("lulucf"))
    rows: list[dict[str, object]] = []
    for area in options.areas:
        trials = {
            "difference": (maps[1], None, 1.0),
            "confidence 50": (open_map(confident), None, 1.0),
            **{f"odds {odds}": (maps[1], (scenes[0], scenes[1]), float(odds)) for odds in (3, 10, 30)},
        }
        for name, (after, probabilities, odds) in trials.items():
            layer = map_change_layer(
                maps[0],
                after,
                folder / "changes.tif",
                min_area_m2=area * 10_000,
                probabilities=probabilities,
                min_odds=odds,
                later=folder / "later.tif",
            )
            changed, later = values_of(layer.map.path) != NODATA, values_of(folder / "later.tif")
            rows.append({"rule": name, "area_ha": area, **scores(changed, later, truth)})
    rows[0] = {**rows[0], "accuracy_before": round(float((early == truth[0]).mean()), 4)}
    return rows


def values_of(path: str | Path) -> NDArray[np.uint8]:
    """All values of a class map."""
    with MapReader(open_map(path)) as reader:
        return reader.read(reader.map.grid)


def scores(
    changed: NDArray[np.bool_], later: NDArray[np.uint8], truth: list[NDArray[np.uint8]]
) -> dict[str, float]:
    """Scores of the changed pixels and of the later map."""
    true = truth[0] != truth[1]
    hits = float((changed & true).sum())
    precision, recall = hits / max(changed.sum(), 1), hits / true.sum()
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 4),
        "area_ratio": round(float(changed.sum() / true.sum()), 3),
        "accuracy_after": round(float((later == truth[1]).mean()), 4),
    }


def means(runs: list[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Means over the seeds by rule and least area."""
    out = {}
    for key in dict.fromkeys((row["rule"], row["area_ha"]) for row in runs):
        same = [row for row in runs if (row["rule"], row["area_ha"]) == key]
        names = ("precision", "recall", "f1", "area_ratio", "accuracy_after")
        out[f"{key[0]}, {key[1]:g} ha"] = {
            name: round(statistics.mean(float(row[name]) for row in same), 3)  # type: ignore[arg-type]
            for name in names
        }
    return out


if __name__ == "__main__":
    main()
