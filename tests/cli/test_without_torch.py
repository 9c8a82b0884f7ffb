"""What a base install does: everything but models, mosaics and plots, without their libraries."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from repository import ROOT
from tesela.core.errors import InputError
from tesela.core.extras import EXTRA_OF
from tesela.io.legends import open_legend
from tesela.io.map_views import draw_classes

BLOCKED = """
import json, sys
from tesela.core.extras import EXTRA_OF
sys.modules.update(dict.fromkeys(EXTRA_OF))
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
        ["sample", "draw", path("general.tif"), "--points", "150", "-o", path("points.gpkg")],
        ["publish", path("general.tif"), "--date", "2018-07-15", "-o", path("published")],
        ["legend", "show", "corine"],
        ["doctor"],
        ["predict", path("none.safetensors"), path("scene.tif"), "-o", path("map.tif")],
        ["demo", "--out", path("demo")],
        ["mosaic", "sentinel-2", "--like", path("scene.tif"), "--year", "2018", "-o", path("mosaics")],
        ["mosaic", "stack", path("scene.tif"), "-o", path("cube.zarr")],
        ["figures", path("report")],
    ]
    made = subprocess.run(
        [sys.executable, "-c", BLOCKED, json.dumps(calls)], capture_output=True, text=True, check=True
    )
    ends = [line[4:] for line in made.stdout.splitlines() if line.startswith("END ")]
    names = [words[0] for words in calls]
    needs = ["torch", "torch", "scipy", "zarr", "matplotlib"]
    worked = len(names) - len(needs)
    assert ends == [f"{int(k >= worked)} {name}" for k, name in enumerate(names)], made.stderr
    errors = [line for line in made.stderr.splitlines() if "pip install" in line]
    assert len(errors) == len(needs)
    for line, library in zip(errors, needs, strict=True):
        assert (
            f"This needs {library}, which is not installed: pip install 'tesela[{EXTRA_OF[library]}]'" in line
        )
    assert not (tmp_path / "demo").exists()
    assert "GDAL driver netCDF" in made.stdout


def test_drawing_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"needs matplotlib, .* pip install 'tesela\[plot\]'"):
        draw_classes(np.ones((2, 2), np.uint8), open_legend("corine-1"), extent=(0, 2, 0, 2))


def test_every_library_of_the_extras_is_named_with_its_extra() -> None:
    """What `pyproject.toml` moved out of the base is known to the errors, under the extra that brings it."""
    imports = {"scikit-learn": "sklearn", "segmentation-models-pytorch": "segmentation_models_pytorch"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    wanted = {
        imports.get(name, name.replace("-", "_")): extra
        for extra in ("imagery", "plot", "train")
        for name in (re.split(r"[>\[]", item)[0] for item in extras[extra])
        if name != "tesela"
    }
    assert wanted == EXTRA_OF
