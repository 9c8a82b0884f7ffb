"""
Ranking: share of the truly wrong patches among those with the highest likelihood of error.

    .venv/bin/python benchmarks/ranking.py

Virtual sheets: an orthophoto of 0.5 m and SIOSE AR polygons (6 % confused, 5 % outdated, 10 % moved), in the legend
lulucf-context. A patch is truly wrong if the class of the polygons differs from the true class on at least a tenth of
it. In random order, the share of wrong patches equals the share of reviewed patches.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio

from tesela.chains.label_ranking import rank_patches
from tesela.io.legends import open_legend
from tesela.io.scenes import open_scene
from tesela.labels.siose import label_sheet
from tesela.patches.table import PatchTable, make_patches
from tesela.simulate.sheet.files import write_sheet
from tesela.sources.siose.rules import SioseRules

REVIEWED = (0.05, 0.1, 0.2)
WRONG_PART = 0.1


def make_table(folder: Path, *, seed: int, size_px: int, patch_px: int) -> tuple[Path, Path]:
    """Patch table of a virtual sheet, and the raster of its wrong labels."""
    sheet = write_sheet(folder, size_px=size_px, seed=seed)
    legend = open_legend("lulucf-context")
    labelled = label_sheet(
        sheet.reference, folder / "labels.tif", image=sheet.image, legend=legend, rules=SioseRules()
    )
    table = make_patches([open_scene(sheet.image)], [labelled.map], size_px=patch_px)
    return table.write(folder / "patches.parquet"), sheet.wrong


def truly_wrong(table: PatchTable, wrong: Path) -> np.ndarray:
    with rasterio.open(wrong) as data:
        pixels = data.read(1) == 1
    side = table.size_px
    corners = zip(table.frame["row"], table.frame["col"], strict=True)
    return np.array([pixels[row : row + side, col : col + side].mean() >= WRONG_PART for row, col in corners])


def share_of_wrong(likelihood: np.ndarray, wrong: np.ndarray, part: float) -> float:
    first = np.argsort(-np.nan_to_num(likelihood, nan=-1), kind="stable")[: round(part * len(likelihood))]
    return float(wrong[first].sum() / wrong.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--size", type=int, default=2048, help="side of the sheet in pixels")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--model", default="forest")
    parser.add_argument("--folder", type=Path, help="keep the work here, to resume it")
    chosen = parser.parse_args()
    sheets = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in map(int, chosen.seeds.split(",")):
            folder = (chosen.folder or Path(scratch)) / f"sheet-{seed}"
            path, errors = make_table(folder, seed=seed, size_px=chosen.size, patch_px=chosen.patch)
            table = rank_patches(path, folder / "ranked.parquet", model=chosen.model, quiet=True).table
            wrong = truly_wrong(table, errors)
            likelihood = table.frame["error_likelihood"].to_numpy(float)
            sheets.append(
                {
                    "seed": seed,
                    "patches": len(table),
                    "truly_wrong": int(wrong.sum()),
                    "wrong_patches": {
                        f"{part:.0%}": round(share_of_wrong(likelihood, wrong, part), 3) for part in REVIEWED
                    },
                }
            )
            print(json.dumps(sheets[-1]), flush=True)
    total = sum(item["truly_wrong"] for item in sheets)
    pooled = {
        f"{part:.0%}": round(
            sum(item["wrong_patches"][f"{part:.0%}"] * item["truly_wrong"] for item in sheets) / total, 3
        )
        for part in REVIEWED
    }
    print(
        json.dumps(
            {
                "model": chosen.model,
                "wrong_patches": pooled,
                "random": {f"{part:.0%}": part for part in REVIEWED},
            }
        )
    )


if __name__ == "__main__":
    main()
