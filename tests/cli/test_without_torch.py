"""What a base install does: everything but networks and trees, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from shapely.geometry import box

BLOCKED = """
import json, sys
for name in ("torch", "lightning", "timm", "segmentation_models_pytorch", "tensorboard", "huggingface_hub"):
    sys.modules[name] = None
from tesela.cli import main
for words in json.loads(sys.argv[1]):
    print("END", main(words), words[0], flush=True)
"""


def test_labels_assessment_generalisation_and_publication_need_no_torch(tmp_path: Path) -> None:
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 4_100_000)
    profile = {"driver": "GTiff", "height": 96, "width": 96, "crs": "EPSG:25830", "transform": transform}
    with rasterio.open(tmp_path / "scene.tif", "w", count=2, dtype="float32", **profile) as data:
        data.write(np.ones((2, 96, 96), np.float32))
    squares = [
        box(500_000 + x, 4_099_040 + y, 500_320 + x, 4_099_360 + y)
        for x in (0, 320, 640)
        for y in (0, 320, 640)
    ]
    codes = ["112", "211", "311"] * 3
    gpd.GeoDataFrame({"CODE_18": codes}, geometry=squares, crs="EPSG:25830").to_file(tmp_path / "clc.gpkg")

    def path(name: str) -> str:
        return str(tmp_path / name)

    read = [path("clc.gpkg"), "--like", path("scene.tif"), "--legend", "corine-1", "--field", "CODE_18"]
    calls = [
        ["label", *read, "-o", path("labels.tif")],
        ["label", *read, "--fractions", "-o", path("shares.tif")],
        ["generalise", path("labels.tif"), "--mmu", "1 ha", "-o", path("general.tif")],
        ["vectorise", path("general.tif"), "-o", path("general.gpkg")],
        ["assess", path("general.tif"), path("clc.gpkg"), "--field", "CODE_18", "-o", path("report")],
        ["sample", "draw", path("general.tif"), "--size", "150", "-o", path("points.gpkg")],
        ["publish", path("general.tif"), "--date", "2018-07-15", "-o", path("published")],
        ["legend", "show", "corine"],
        ["doctor"],
        ["predict", path("none.safetensors"), path("scene.tif"), "-o", path("map.tif")],
    ]
    made = subprocess.run(
        [sys.executable, "-c", BLOCKED, json.dumps(calls)], capture_output=True, text=True, check=True
    )
    ends = [line[4:] for line in made.stdout.splitlines() if line.startswith("END ")]
    names = [words[0] for words in calls]
    assert ends == [*(f"0 {name}" for name in names[:-1]), "1 predict"], made.stderr
    assert "pip install 'tesela[train]'" in made.stderr
    assert "GDAL driver netCDF" in made.stdout
