"""
Ranking: how many of the truly wrong patches a reviewer meets when the most doubted come first.

    .venv/bin/python benchmarks/ranking.py

Virtual sheets: an orthophoto of 0.5 m and SIOSE AR polygons (6 % confused, 5 % outdated, 10 % moved), in the legend
lulucf-context. A patch is truly wrong where the class of the polygons is not that of the ground on at least a tenth of
it. Random order finds the share that is reviewed.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio

from tesela.chains.label_ranking import rank_patches
from tesela.io.legends import load_legend
from tesela.io.scenes import open_scene
from tesela.labels.siose import label_sheet
from tesela.patches.table import PatchTable, make_patches
from tesela.simulate.sheet.files import write_sheet
from tesela.sources.siose.rules import SioseRules

REVIEWED = (0.05, 0.1, 0.2)
WRONG_PART = 0.1


def make_table(folder: Path, *, seed: int, size_px: int, patch_px: int) -> tuple[Path, Path]:
    """Patch table of a virtual sheet, and the raster that tells where its labels are wrong."""
    sheet = write_sheet(folder, size_px=size_px, seed=seed)
    legend = load_legend("lulucf-context")
    drawn = label_sheet(
        sheet.reference, folder / "labels.tif", image=sheet.image, legend=legend, rules=SioseRules()
    )
    table = make_patches([open_scene(sheet.image)], [drawn.map], size_px=patch_px)
    return table.write(folder / "patches.parquet"), sheet.wrong


def truly_wrong(table: PatchTable, wrong: Path) -> np.ndarray:
    with rasterio.open(wrong) as data:
        pixels = data.read(1) == 1
    side = table.size_px
    corners = zip(table.frame["row"], table.frame["col"], strict=True)
    return np.array([pixels[row : row + side, col : col + side].mean() >= WRONG_PART for row, col in corners])


def found_among_first(doubt: np.ndarray, wrong: np.ndarray, part: float) -> float:
    first = np.argsort(-np.nan_to_num(doubt, nan=-1), kind="stable")[: round(part * len(doubt))]
    return float(wrong[first].sum() / wrong.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--size", type=int, default=2048, help="side of the sheet in pixels")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--model", default="forest")
    parser.add_argument("--folder", type=Path, help="keep the work here, and go on where it was")
    chosen = parser.parse_args()
    sheets = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in map(int, chosen.seeds.split(",")):
            folder = (chosen.folder or Path(scratch)) / f"sheet-{seed}"
            path, where = make_table(folder, seed=seed, size_px=chosen.size, patch_px=chosen.patch)
            table = rank_patches(path, folder / "ranked.parquet", model=chosen.model, quiet=True).table
            wrong = truly_wrong(table, where)
            doubt = table.frame["doubt"].to_numpy(float)
            sheets.append(
                {
                    "seed": seed,
                    "patches": len(table),
                    "truly_wrong": int(wrong.sum()),
                    "found": {
                        f"{part:.0%}": round(found_among_first(doubt, wrong, part), 3) for part in REVIEWED
                    },
                }
            )
            print(json.dumps(sheets[-1]), flush=True)
    total = sum(item["truly_wrong"] for item in sheets)
    pooled = {
        f"{part:.0%}": round(
            sum(item["found"][f"{part:.0%}"] * item["truly_wrong"] for item in sheets) / total, 3
        )
        for part in REVIEWED
    }
    print(
        json.dumps(
            {"model": chosen.model, "found": pooled, "random": {f"{part:.0%}": part for part in REVIEWED}}
        )
    )


if __name__ == "__main__":
    main()
