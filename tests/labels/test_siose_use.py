"""Land use, reference years and interpretation of SIOSE AR polygons."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely

from tesela.core.errors import InputError, RecipeError
from tesela.io.legends import open_legend, use_rules
from tesela.io.raster import open_dataset
from tesela.sources.siose.classes import SioseClasses, write_siose_classes
from tesela.sources.siose.geopackage import open_siose
from tesela.sources.siose.land_use import decided_by_use, years_of
from tesela.sources.siose.rules import SioseRules, make_rules

LULUCF = open_legend("lulucf")
# ID_POLYGON, largest cover, HILUCS, FCCARB, MEJORADO, FECHA_REF
POLYGONS = [
    ("garden", 300, 500, None, "REV_VISUAL", "2017-05-01"),
    ("meadow", 300, 111, None, None, "2015-05-01"),
    ("fallow", 330, 111, None, None, "2017-05-01"),
    ("cleared", 320, 120, None, "rev_visual", "2017-05-01"),
    ("quarry", 330, 133, None, None, "01/07/2016"),
    ("rock", 330, 631, None, None, None),
    ("verge", 310, 411, 90, None, "2017-05-01"),
    ("wood", 310, 120, 90, None, "2018-05-01"),
    ("dehesa", 302, 150, 30, None, "2018-05-01"),
    ("sparse", 302, 150, 10, None, "2018-05-01"),
]


def write(path: Path, *, use_of: str = "polygons") -> Path:
    """File of SIOSE AR with the use in T_POLIGONOS, in T_USOS by parcel, or nowhere."""
    columns = ["ID_POLYGON", "ID_COBERTURA_MAX", "HILUCS", "FCCARB", "MEJORADO", "FECHA_REF"]
    table = pd.DataFrame(POLYGONS, columns=columns).assign(ID_PARCELA=lambda rows: "P" + rows["ID_POLYGON"])
    shapes = [
        shapely.box(500_000 + 10 * n, 4_100_000, 500_010 + 10 * n, 4_100_010) for n in range(len(table))
    ]
    frame = gpd.GeoDataFrame(table, geometry=shapes, crs="EPSG:25830")
    kept = frame if use_of == "polygons" else frame.drop(columns="HILUCS")
    pyogrio.write_dataframe(kept, path, layer="SAR_18_T_POLIGONOS", driver="GPKG")
    if use_of == "parcels":
        uses = frame[["ID_PARCELA", "HILUCS", "geometry"]].assign(SUPERF_M2=100.0)
        minor = uses.assign(HILUCS=311, SUPERF_M2=20.0)  # a smaller use of the same parcel
        both = gpd.GeoDataFrame(pd.concat([minor, uses], ignore_index=True), crs=frame.crs)
        pyogrio.write_dataframe(both, path, layer="SAR_18_T_USOS", driver="GPKG", append=True)
    return path


def classify(path: Path, rules: SioseRules | None = None) -> tuple[dict[str, str], SioseClasses]:
    out = path.with_name("classes.gpkg")
    made = write_siose_classes(open_siose(path), out, legend=LULUCF, rules=rules)
    frame = gpd.read_file(out)
    return dict(zip(frame["ID_POLYGON"], frame["CODE"], strict=True)), made


EXPECTED = {
    "garden": "settlements",
    "meadow": "grassland",
    "fallow": "cropland",
    "cleared": "forest_land",
    "quarry": "settlements",
    "rock": "other_land",
    "verge": "settlements",
    "wood": "forest_land",
    "dehesa": "forest_land",
    "sparse": "grassland",
}


@pytest.mark.parametrize("use_of", ["polygons", "parcels"])
def test_use_decides_the_category_where_cover_does_not_tell(tmp_path: Path, use_of: str) -> None:
    assert classify(write(tmp_path / "a.gpkg", use_of=use_of))[0] == EXPECTED


def test_without_use_the_cover_decides(tmp_path: Path) -> None:
    by_cover = EXPECTED | {
        "garden": "grassland",
        "fallow": "other_land",
        "cleared": "grassland",
        "quarry": "other_land",
        "verge": "forest_land",
    }
    assert classify(write(tmp_path / "a.gpkg", use_of="nowhere"))[0] == by_cover
    assert classify(write(tmp_path / "b.gpkg"), SioseRules(land_use=False))[0] == by_cover


def test_every_row_of_the_table_of_uses_names_covers_and_a_category() -> None:
    covers = set(open_legend("siose-ar").codes)
    for row in use_rules("lulucf"):
        assert set(row["covers"].split()) <= covers
        assert row["to"] in LULUCF
    assert use_rules("corine") == []


def test_the_form_of_a_use_code_does_not_matter() -> None:
    codes = np.array(["grassland"] * 4, object)
    covers = np.array(["300"] * 4, object)
    uses = np.array(["5", "4_1_1", "411.0", ""], object)
    found = decided_by_use("lulucf", codes, covers, uses).tolist()
    assert found == ["settlements", "settlements", "settlements", "grassland"]


def test_polygons_are_chosen_by_year_and_interpretation(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg")
    found, made = classify(path, SioseRules(years=(2016, 2017)))
    assert set(found) == {"garden", "fallow", "cleared", "quarry", "verge"}
    assert made.other_years == 5
    found, made = classify(path, SioseRules(interpreted=True))
    assert set(found) == {"garden", "cleared"}
    assert made.not_interpreted == 8
    with pytest.raises(InputError, match="10 of other years"):
        classify(path, SioseRules(years=(1990, 1991)))
    assert years_of(["2017-07-01", "01/07/2016", "20150101", 2014, None]).tolist() == [
        2017,
        2016,
        2015,
        2014,
        0,
    ]


def test_years_are_written_as_a_span() -> None:
    usual = {
        "mode": "majority",
        "min_share": 0.0,
        "min_area_m2": 0.0,
        "trees": "covers",
        "canopy_percent": 20.0,
    }
    assert make_rules(**usual, years="2016-2018").years == (2016, 2018)  # type: ignore[arg-type]
    assert make_rules(**usual, years="2017").years == (2017, 2017)  # type: ignore[arg-type]
    for wrong in ("2018-2016", "last"):
        with pytest.raises(RecipeError, match=r"the first and the last"):
            make_rules(**usual, years=wrong)  # type: ignore[arg-type]


def test_an_ecw_without_its_driver_has_a_way_out(tmp_path: Path) -> None:
    with rasterio.Env() as env:
        if "ECW" in env.drivers():
            pytest.skip("This GDAL reads ECW.")
    path = tmp_path / "PNOA.ecw"
    path.write_bytes(b"not one")
    with pytest.raises(InputError, match=r"gdal_translate -of COG -co COMPRESS=DEFLATE PNOA\.ecw image\.tif"):
        open_dataset(path)
