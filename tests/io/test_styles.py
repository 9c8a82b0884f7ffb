"""Styles of outputs: QGIS finds one beside every raster and in every sample."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.io.abundance import ErrorWriter
from tesela.io.cog import CogWriter
from tesela.io.images import CountWriter, MosaicWriter
from tesela.io.legends import open_legend
from tesela.io.maps import write_map
from tesela.sampling.design import plan_sample
from tesela.sampling.draw import draw_sample

GRID = GeoBox((60, 60), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")
CORINE = open_legend("corine-1")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    values = np.where(np.arange(60)[None, :].repeat(60, 0) < 30, 3, 5).astype(np.uint8)
    source = write_map(tmp_path / "map.tif", values, GRID, legend=CORINE)
    return draw_sample(
        source, tmp_path / "sample.gpkg", design=plan_sample(source, points=20, minimum=5, seed=1)
    )


def style_of(path: Path, layer: str) -> ElementTree.Element:
    with closing(sqlite3.connect(path)) as base:
        rows = base.execute(
            "SELECT styleQML, useAsDefault FROM layer_styles WHERE f_table_name = ?", (layer,)
        ).fetchall()
    assert len(rows) == 1
    assert rows[0][1] == 1
    return ElementTree.fromstring(rows[0][0])


def test_a_sample_offers_its_classes_as_a_list_for_the_reference(sample: Path) -> None:
    root = style_of(sample, "points")
    widget = root.find(".//field[@name='reference']/editWidget")
    assert widget is not None
    assert widget.get("type") == "ValueMap"
    pairs = {
        option.get("value"): option.get("name")
        for option in widget.iter("Option")
        if option.get("value") is not None
    }
    assert pairs[""] == "no response"
    assert {code: pairs[code] for code in CORINE.codes} == {
        item.code: f"{item.code} {item.name}" for item in CORINE.classes
    }
    assert {item.get("value") for item in root.iter("category")} == {"", *CORINE.codes}


def test_a_sample_with_a_style_is_read_and_answered_like_before(sample: Path) -> None:
    names = {name for name, _ in pyogrio.list_layers(sample)}
    assert {"points", "strata", "key", "classes"} <= names
    with closing(sqlite3.connect(sample)) as base, base:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            base.create_function(name, 1, lambda _: None)
        base.execute("UPDATE points SET reference = '3'")
    assert len(pyogrio.read_dataframe(sample, layer="points")) == 20


@pytest.mark.parametrize(
    ("make", "bands", "red"),
    [
        (lambda path: MosaicWriter(path, GRID, names=["B02", "B03", "B04"], date="2018-07-01"), 3, "3"),
        (lambda path: CountWriter(path, GRID), 1, None),
        (lambda path: ErrorWriter(path, GRID), 2, None),
    ],
)
def test_rasters_have_a_style_beside_them(
    tmp_path: Path, make: Callable[[Path], CogWriter], bands: int, red: str | None
) -> None:
    path = tmp_path / "out.tif"
    with make(path) as writer:
        writer.write(0, 0, np.ones((bands, 60, 60), np.uint8 if bands == 1 else np.uint16).squeeze())
    root = ElementTree.fromstring((tmp_path / "out.qml").read_text(encoding="utf-8").partition("\n")[2])
    renderer = root.find(".//rasterrenderer")
    assert renderer is not None
    assert renderer.get("redBand") == red
