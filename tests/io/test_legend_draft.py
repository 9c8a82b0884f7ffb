"""Legends of one's own: drafts are read as they are written, from polygons, rasters, or nothing."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.core.errors import InputError, LegendError
from tesela.io.legend_draft import write_legend_draft
from tesela.io.legends import open_legend
from tesela.io.maps import open_map, write_map
from tesela.labels import write_labels

GRID = GeoBox((40, 60), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")


@pytest.fixture
def polygons(tmp_path: Path) -> Path:
    left, bottom, right, top = GRID.extent.boundingbox
    middle = (left + right) / 2
    boxes = [shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)]
    frame = gpd.GeoDataFrame(
        {"CODE": ["B2", "A1"], "LABEL": ['Bog, "raised"', "Arable"]}, geometry=boxes, crs="EPSG:32630"
    )
    frame.to_file(tmp_path / "landuse.gpkg")
    return tmp_path / "landuse.gpkg"


def test_the_example_is_a_legend_of_two_levels_that_explains_its_columns(tmp_path: Path) -> None:
    assert main(["legend", "init", "-o", str(tmp_path / "mine.csv")]) == 0
    legend = open_legend(tmp_path / "mine.csv")
    assert legend.address == "mine-2"
    assert legend.codes == ("forest", "grass", "wat")
    assert legend.level(1).codes == ("veg", "wat")
    text = (tmp_path / "mine.csv").read_text(encoding="utf-8")
    for column in ("level", "value", "code", "name", "color", "parent"):
        assert f"# {column:8}" in text


def test_a_legend_from_polygons_draws_them(polygons: Path, tmp_path: Path) -> None:
    legend = write_legend_draft(tmp_path / "mine.csv", source=polygons, field="code", names="LABEL")
    assert [(item.value, item.code, item.name) for item in legend.classes] == [
        (1, "A1", "Arable"),
        (2, "B2", 'Bog, "raised"'),
    ]
    made = write_labels(polygons, tmp_path / "labels.tif", like=GRID, legend=legend, field="CODE")
    with rasterio.open(made.path) as data:
        assert np.unique(data.read(1)).tolist() == [1, 2]
        assert data.read(1)[0, 0] == 2


def test_a_legend_from_a_raster_keeps_its_values_and_colours(tmp_path: Path) -> None:
    values = np.full((40, 60), 31, np.uint8)
    values[:10], values[10:20] = 51, 0
    source = write_map(tmp_path / "map.tif", values, GRID, legend=open_legend("corine-2"))
    legend = write_legend_draft(tmp_path / "mine.csv", source=source.path)
    corine = {item.value: item.color for item in open_legend("corine-2").classes}
    assert [(item.value, item.color) for item in legend.classes] == [(31, corine[31]), (51, corine[51])]


def test_codes_that_no_byte_holds_become_codes_with_values_of_their_own(tmp_path: Path) -> None:
    profile = {
        "driver": "GTiff",
        "width": 60,
        "height": 40,
        "count": 1,
        "dtype": "uint16",
        "crs": "EPSG:32630",
    }
    with rasterio.open(tmp_path / "codes.tif", "w", transform=GRID.affine, **profile) as data:
        data.write(np.where(np.arange(60) < 30, 311, 512).astype(np.uint16)[None].repeat(40, 0), 1)
    legend = write_legend_draft(tmp_path / "mine.csv", source=tmp_path / "codes.tif")
    assert [(item.value, item.code) for item in legend.classes] == [(1, "311"), (2, "512")]


def test_colours_may_be_left_out_and_differ(tmp_path: Path) -> None:
    rows = "".join(f"{number},c{number},Class {number}\n" for number in range(1, 41))
    (tmp_path / "mine.csv").write_text(f"value,code,name\n{rows}")
    legend = open_legend(tmp_path / "mine.csv")
    assert len({item.color for item in legend.classes}) == 40
    made = write_map(tmp_path / "map.tif", np.full((40, 60), 4, np.uint8), GRID, legend=legend)
    assert open_map(made.path).legend["c4"].color == legend["c4"].color


def test_what_cannot_be_drafted_is_reported_in_one_line(polygons: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"name the field of the class codes \(--field\); it has CODE, LABEL"
    ):
        write_legend_draft(tmp_path / "mine.csv", source=polygons)
    with pytest.raises(LegendError, match=r"end the name in .csv"):
        write_legend_draft(tmp_path / "mine.txt")
    source = write_map(
        tmp_path / "map.tif", np.full((40, 60), 31, np.uint8), GRID, legend=open_legend("corine-2")
    )
    with pytest.raises(InputError, match="a raster has no fields"):
        write_legend_draft(tmp_path / "mine.csv", source=source.path, field="CODE")
