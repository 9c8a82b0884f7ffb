"""
Which share of the true changes an update finds at which share of polygons looked at, on virtual regions.

Each region has a CORINE-like reference of which some polygons have a wrong class: confused with another, or
outdated. A random forest learns from this very reference, on ten Sentinel-2 bands of three dates, and draws a map
with confidence at CORINE level 2; the update ranks the polygons by it. Counted as changes are polygons whose true
class differs at level 2. Beside the order of `tesela update` stand three simpler ones: by the share of other classes,
by that share weighted with confidence, and by chance. The regions are not those on which the order was chosen.
``--generalise-ha 1`` brings the maps to that unit first. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from tesela.generalise.generalise import generalise_map
from tesela.generalise.update import evaluate_polygons
from tesela.io.layers import write_layer
from tesela.io.legends import open_legend
from tesela.io.maps import ScoreWriter, open_map, write_map
from tesela.io.vector import open_layer
from tesela.labels.masks import write_labels
from tesela.simulate.region.landscape import make_landscape
from tesela.simulate.region.references import make_reference
from tesela.simulate.region.sensors import simulate_image
from tesela.simulate.region.surface import lay_surface

LOOKED_AT = (0.05, 0.1, 0.2, 0.3, 0.5)
SEASONS = ("april", "july", "september")
VERDICTS = ("changed", "doubtful", "holds")


def draw_map(folder: Path, *, seed: int, size_px: int) -> dict[str, object]:
    """Make a region, learn from its reference and draw the map; tell what is wrong with the reference."""
    landscape = make_landscape(size_px=size_px, seed=seed)
    reference = make_reference(landscape, min_area_ha=3.0)
    surface = lay_surface(landscape)
    images = [simulate_image(landscape, season, surface=surface).values for season in SEASONS]
    bands = np.concatenate(images).reshape(-1, size_px**2).T
    legend = open_legend("corine-2")
    layer = write_layer(folder / "reference.gpkg", reference.polygons, layer="reference")
    labels = write_labels(layer, folder / "labels.tif", like=landscape.grid, legend=legend, field="CODE_18")
    with rasterio.open(labels.path) as data:
        taught = data.read(1)
    random = np.random.default_rng(seed)
    chosen = random.choice(np.flatnonzero(taught > 0), 30_000, replace=False)
    forest = RandomForestClassifier(40, min_samples_leaf=5, n_jobs=-1, random_state=seed)
    forest.fit(bands[chosen], taught.ravel()[chosen])
    scores = forest.predict_proba(bands)
    values = forest.classes_[scores.argmax(axis=1)].astype(np.uint8).reshape(taught.shape)
    write_map(folder / "map.tif", values, landscape.grid, legend=legend)
    with ScoreWriter(
        folder / "confidence.tif", landscape.grid, ["confidence"], scale=1.0, unit="%"
    ) as writer:
        writer.write(0, 0, np.rint(scores.max(axis=1) * 100).astype(np.uint8).reshape(taught.shape))
    truth = open_legend("corine-3").level_table(2)[landscape.truth]
    wrong = [place for place in reference.wrong if place.code[:2] != place.true_code[:2]]
    return {
        "changes": [place.polygon for place in wrong],
        "map_accuracy": float((values == truth).mean()),
        "reference_accuracy": float((taught == truth).mean()),
    }


def found_at(changed: NDArray[np.bool_], share: float) -> float:
    return float(changed[: round(share * len(changed))].sum() / changed.sum())


def curves(frame: gpd.GeoDataFrame, changed: NDArray[np.bool_]) -> dict[str, list[float]]:
    other = 1 - frame["own_share"].to_numpy()
    orders = {
        "tesela update": np.arange(len(frame)),
        "share of other classes": np.argsort(-other, kind="stable"),
        "that share times confidence": np.argsort(-other * frame["confidence"].to_numpy(), kind="stable"),
    }
    found = {name: [found_at(changed[order], share) for share in LOOKED_AT] for name, order in orders.items()}
    return found | {"chance": list(LOOKED_AT)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15, 16])
    parser.add_argument("--size-px", type=int, default=1000)
    parser.add_argument("--generalise-ha", type=float, default=0.0)
    options = parser.parse_args()
    regions, polygons, changes = [], 0, 0
    verdicts = {name: {"polygons": 0, "changes": 0} for name in VERDICTS}
    seconds = 0.0
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            facts = draw_map(folder, seed=seed, size_px=options.size_px)
            layer, source = open_layer(folder / "reference.gpkg"), open_map(folder / "map.tif")
            if options.generalise_ha:
                source, _ = generalise_map(source, folder / "unit.tif", mmu_m2=options.generalise_ha * 1e4)
            start = time.process_time()
            frame = evaluate_polygons(layer, source, field="CODE_18", confidence=folder / "confidence.tif")
            seconds += time.process_time() - start
        changed = frame["ID"].isin(facts["changes"]).to_numpy()
        regions.append(curves(frame, changed))
        polygons, changes = polygons + len(frame), changes + int(changed.sum())
        for name in VERDICTS:
            said = (frame["verdict"] == name).to_numpy()
            verdicts[name]["polygons"] += int(said.sum())
            verdicts[name]["changes"] += int((said & changed).sum())
        facts.pop("changes")
        regions[-1] |= {"seed": seed, "polygons": len(frame), "true_changes": int(changed.sum())} | facts
    methods = [name for name in regions[0] if isinstance(regions[0][name], list)]
    mean = {name: np.mean([region[name] for region in regions], axis=0).round(3).tolist() for name in methods}
    report = {
        "polygons": polygons,
        "true_changes": changes,
        "looked_at": LOOKED_AT,
        "found_of_the_changes": mean,
        "verdicts": verdicts,
        "judging_cpu_seconds": seconds,
        "regions": regions,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
