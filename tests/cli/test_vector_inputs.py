"""Vectors as agencies hand them in, through the commands: the same areas everywhere, and a line for what was mended."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from tesela.cli import main

X, Y = 450_000.0, 4_090_000.0  # 600 x 600 m, four squares of 9 ha
FOREST, WATER = 23, 41  # values of 311 and 512 in the legend of CORINE
BOW_TIE = shapely.Polygon([(X, Y - 300), (X + 300, Y), (X + 300, Y - 300), (X, Y)])

Run = Callable[..., tuple[int, str]]


def squares() -> gpd.GeoDataFrame:
    box = shapely.box
    return gpd.GeoDataFrame(
        {"CODE_18": ["112", "211", "311", "512"], "ID": [1, 2, 3, 4]},
        crs="EPSG:25830",
        geometry=[
            box(X, Y - 600, X + 300, Y - 300),
            box(X + 300, Y - 600, X + 600, Y - 300),
            box(X, Y - 300, X + 300, Y),
            box(X + 300, Y - 300, X + 600, Y),
        ],
    )


def raster(path: str, side: int, pixel_m: float) -> None:
    grid = {"crs": "EPSG:25830", "transform": from_origin(X, Y, pixel_m, pixel_m)}
    with rasterio.open(path, "w", "GTiff", side, side, 1, dtype="uint8", **grid) as file:
        file.write(np.ones((1, side, side), "uint8"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder with a scene, cells of 1 ha, a reference and its map."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    raster("scene.tif", 60, 10)
    raster("cells.tif", 6, 100)
    squares().to_file("ref.gpkg", layer="clc", engine="pyogrio")
    assert label(call, "ref.gpkg", out="map.tif")[0] == 0
    return call


def label(run: Run, file: object, *more: object, out: str = "labels.tif") -> tuple[int, str]:
    return run(
        "label", file, "--like", "scene.tif", "--legend", "corine", "--field", "CODE_18", "-o", out, *more
    )


def fractions(run: Run, file: object) -> tuple[int, str]:
    like = ("--like", "cells.tif", "--legend", "corine", "--field", "CODE_18", "--fractions")
    return run("label", file, *like, "-o", "shares.tif")


def update(run: Run, file: object, *more: object) -> tuple[int, str]:
    return run("update", file, "map.tif", "--field", "CODE_18", "-o", "update.gpkg", "--all", *more)


def drawn_ha(value: int) -> float:
    with rasterio.open("labels.tif") as file:
        return float((file.read(1) == value).sum()) / 100


def shared_ha(name: str) -> float:
    with rasterio.open("shares.tif") as file:
        band = file.read(file.descriptions.index(name) + 1).astype(float)
    return float(band[band != 65535].sum()) / 10_000


def updated() -> gpd.GeoDataFrame:
    return gpd.read_file("update.gpkg", layer="update", engine="pyogrio").set_index("ID")


def with_arc(path: str) -> None:
    """The reference with a circle of radius 140 m, as an arc, in place of its forest."""
    x, y, r = X + 150, Y - 150, 140
    points = [(x - r, y), (x, y + r), (x + r, y), (x, y - r), (x - r, y)]
    arc = struct.pack("<BII", 1, 8, 5) + b"".join(struct.pack("<2d", *point) for point in points)
    surface = struct.pack("<BII", 1, 12, 1) + struct.pack("<BII", 1, 10, 1) + arc
    squares().to_file(path, layer="clc", SPATIAL_INDEX="NO", promote_to_multi=True, engine="pyogrio")
    with closing(sqlite3.connect(path)) as base, base:
        blob = b"GP\x00\x01" + struct.pack("<i", 25830) + surface
        base.execute("update clc set geom = ? where fid = 3", (blob,))


def test_arcs_have_their_area_in_every_command(run: Run) -> None:
    with_arc("arc.gpkg")
    told = "note: arc.gpkg: 1 polygon with arcs (feature 3): read as chords of one degree."
    area = np.pi * 1.4**2
    for command, found in (
        (label, lambda: drawn_ha(FOREST)),
        (fractions, lambda: shared_ha("Broad-leaved forest")),
        (update, lambda: updated().area_ha[3]),
    ):
        code, text = command(run, "arc.gpkg")
        assert (code, told in text) == (0, True), text
        # --fractions divides by the covered area, and leaves out cells that are covered by less than half
        assert found() == pytest.approx(area, rel=0.3 if command is fractions else 0.01)
    code, text = run("assess", "map.tif", "arc.gpkg", "--field", "CODE_18", "-o", "report")
    assert (code, told in text) == (0, True)
    assert "284 pixels have a class in the map and none in the reference" in text


def test_what_make_valid_leaves_is_drawn_and_not_lost(run: Run) -> None:
    spike = [
        (X + 160, Y - 300),
        (X + 300, Y - 300),
        (X + 300, Y),
        (X + 230, Y),
        (X + 230, Y + 50),
        (X + 230, Y),
    ]
    parts = [shapely.box(X, Y - 300, X + 140, Y), shapely.Polygon([*spike, (X + 160, Y)])]
    frame = squares()
    frame.loc[2, "geometry"] = shapely.make_valid(shapely.MultiPolygon(parts))
    assert frame.geometry[2].geom_type == "GeometryCollection"
    frame.to_file("mended.gpkg", engine="pyogrio")
    assert label(run, "mended.gpkg")[0] == 0
    assert drawn_ha(FOREST) == 8.4
    code, text = run("assess", "map.tif", "mended.gpkg", "--field", "CODE_18", "-o", "report")
    assert (code, "60 pixels have a class in the map" in text) == (0, True)


def test_polygons_that_cross_themselves_have_one_area_everywhere(run: Run) -> None:
    frame = squares()
    frame.loc[2, "geometry"] = BOW_TIE
    frame.to_file("bow.gpkg", engine="pyogrio")
    for command in (label, fractions, update):
        code, text = command(run, "bow.gpkg")
        assert code == 0
        assert "bow.gpkg: 1 polygon invalid (it crosses itself, or its parts overlap) (feature 3)" in text
    assert drawn_ha(FOREST) == pytest.approx(4.5, abs=0.2)
    assert updated().area_ha[3] == pytest.approx(4.5)
    assert updated().verdict[3] == "holds"
    water = squares().iloc[[2]].assign(CODE_18="512")
    water.geometry = [squares().geometry[2].difference(shapely.make_valid(BOW_TIE))]
    pd.concat([frame.iloc[[2]], water]).to_file("pair.gpkg", engine="pyogrio")
    assert fractions(run, "pair.gpkg")[0] == 0
    assert shared_ha("Broad-leaved forest") == pytest.approx(4.5, abs=1e-3)


def test_a_lake_over_a_forest_has_one_area_everywhere_and_is_told(run: Run) -> None:
    lake = gpd.GeoDataFrame(
        {"CODE_18": ["512"], "ID": [9]}, geometry=[shapely.box(X + 130, Y - 230, X + 190, Y - 110)], crs=25830
    )
    pd.concat([squares(), lake], ignore_index=True).to_file("lake.gpkg", engine="pyogrio")
    told = "lake.gpkg: 1 overlap of polygons, 0.7200 ha in all (feature 5 over 3): there the later one in the file"
    for command in (label, fractions, update):
        code, text = command(run, "lake.gpkg")
        assert (code, told in text) == (0, True), text
    assert drawn_ha(WATER) == pytest.approx(9.72)
    assert shared_ha("Water bodies") == pytest.approx(9.72, abs=1e-3)
    assert updated().area_ha[[3, 9]].tolist() == pytest.approx([8.28, 0.72])
    pd.concat([squares(), squares()], ignore_index=True).to_file("twice.gpkg", engine="pyogrio")
    code, text = update(run, "twice.gpkg")
    assert (code, "4 overlaps of polygons, 36.0000 ha in all" in text) == (0, True)
    assert updated().area_ha.sum() == pytest.approx(36)


def test_one_option_names_the_layer_wherever_a_file_has_several(run: Run) -> None:
    for layer in ("clc24_es", "clc18_es", "cha1824_es", "sol1824_es"):
        squares().to_file("delivery.gpkg", layer=layer, engine="pyogrio")
    assess = ("assess", "map.tif", "ref.gpkg", "--field", "CODE_18", "-o", "report")
    patches = (
        "patches",
        "scene.tif",
        "--labels",
        "map.tif",
        "--size",
        10,
        "--split",
        "region",
        "-o",
        "p.parquet",
    )
    for words in (
        (
            "label",
            "delivery.gpkg",
            "--like",
            "scene.tif",
            "--legend",
            "corine",
            "--field",
            "CODE_18",
            "-o",
            "l.tif",
        ),
        ("update", "delivery.gpkg", "map.tif", "--field", "CODE_18", "-o", "u.gpkg"),
        ("assess", "map.tif", "delivery.gpkg", "--field", "CODE_18", "-o", "report"),
        (*assess, "--regions", "delivery.gpkg", "--region-field", "ID"),
        (*assess, "--within", "delivery.gpkg"),
        (*patches, "--regions", "delivery.gpkg", "--region-field", "ID"),
    ):
        code, text = run(*words)
        assert (code, "name one (--layer clc24_es, or" in text) == (1, True), text
        code, text = run(*words, "--layer", "clc24_es")
        assert code == 0, text
    code, text = run(*assess, "--layer", "other")
    assert (code, "No file given has several layers" in text) == (1, True)
    code, text = run(*assess, "--within", "delivery.gpkg|layername=clc18_es")
    assert code == 0, text


def test_third_revision_and_awkward_fields_are_written_back(run: Run) -> None:
    frame = squares().assign(fid=list("abcd"), geom=1.5, bbox="x", Area=1, AREA=2)
    frame.to_parquet("old.parquet", write_covering_bbox=False)
    assert update(run, "old.parquet")[0] == 0
    assert {"fid_old", "geom_old", "bbox_old", "Area", "AREA_old"} <= set(updated().columns)
    for old, new in (("update.gpkg|layername=update", "second.parquet"), ("second.parquet", "third.gpkg")):
        code, text = run("update", old, "map.tif", "--field", "CODE_18", "--all", "-o", new)
        assert code == 0, text
    third = gpd.read_file("third.gpkg", layer="update", engine="pyogrio")
    assert {"rank", "rank_old", "rank_old2", "verdict_old2"} <= set(third.columns)
    names = [name.casefold() for name in third.columns]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("code", ["999", "990", "995", None])
def test_codes_without_a_class_are_treated_the_same(run: Run, code: str | None) -> None:
    frame = squares()
    frame.loc[2, "CODE_18"] = code
    frame.to_file("eea.gpkg", engine="pyogrio")
    told = "1 polygon without a code in the field 'CODE_18' (feature 3)"
    for command in (label, fractions, update):
        status, text = command(run, "eea.gpkg")
        assert (status, told in text) == (0, code is None), text
    assert drawn_ha(FOREST) == drawn_ha(0) - 9 == 0
    assert updated().verdict[3] == "unseen"


def test_unknown_codes_list_the_classes_first(run: Run) -> None:
    squares().assign(CODE_18="7777").to_file("odd.gpkg", engine="pyogrio")
    code, text = label(run, "odd.gpkg")
    assert (code, "it has 111, 112, 121" in text) == (1, True)


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        (3042, "a.gpkg"),
        (4258, "b.gml"),
        (3042, "c.gml"),
        (3035, "d.gpkg"),
        (4326, "e.geojson"),
        (4326, "f.kml"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_axes_are_read_in_the_order_of_their_format(run: Run, crs: int, name: str) -> None:
    squares().to_crs(crs).to_file(name, engine="pyogrio")
    code, text = label(run, name)
    assert code == 0, text
    assert [drawn_ha(value) for value in (2, 12, FOREST, WATER)] == [9, 9, 9, 9]


def test_latitude_before_longitude_by_mistake_is_refused_by_place(run: Run) -> None:
    frame = squares().to_crs(4326)
    frame.geometry = shapely.transform(frame.geometry.to_numpy(), lambda points: points[:, ::-1])
    frame.to_file("swapped.gpkg", engine="pyogrio")
    code, text = label(run, "swapped.gpkg")
    assert (code, "do not overlap" in text) == (1, True)


def test_no_output_replaces_the_file_that_an_address_reads(run: Run) -> None:
    for address in ("ref.gpkg|layername=clc", "ref.gpkg"):
        code, text = run("update", address, "map.tif", "--field", "CODE_18", "-o", "ref.gpkg")
        assert (code, "is read, and would be replaced" in text) == (1, True), text
    assert len(gpd.read_file("ref.gpkg", engine="pyogrio")) == 4
