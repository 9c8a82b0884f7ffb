"""SIOSE AR: its labels, layers and columns are read as IGN ships them, and become the classes of each expert."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.core.errors import GridError, InputError, LegendError, RecipeError
from tesela.core.legend import LandClass, Legend
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import MapReader
from tesela.labels.siose import label_siose
from tesela.simulate.sheet.covers import COVER_TYPES, LABELS
from tesela.simulate.sheet.siose import rotulo
from tesela.sources.pnoa import PnoaName, check_one_sheet, check_zone, read_sheet
from tesela.sources.siose import classes as siose_classes
from tesela.sources.siose.classes import SioseClasses, write_siose_classes
from tesela.sources.siose.geopackage import COVERS, Cover, is_siose, open_siose, parse_rotulo
from tesela.sources.siose.rules import SioseRules, species_legend

LEFT, BOTTOM, SIDE = 500_000.0, 4_100_000.0, 100.0
CONTEXT, TREES = open_legend("lulucf-context"), open_legend("tree-cover")

# ID_POLYGON, ROTULO, largest cover, FCCARB, LIDAR_POR_ARB
POLYGONS = [
    ("a", "CHE", 210, None, 0.0),
    ("b", "40PAV_30CHE_30PRD", 104, None, 5.0),
    ("c", "60FDP_40CNF", 313, 80, 75.0),
    ("d", "PPA", 302, 30, 25.0),
    ("e", "PPA", 302, 10, 30.0),
    ("f", "AEM", 514, None, 0.0),
]
# ID_POLYGON, ID_COBERTURA, per cent, FF_SP
PARTS = [
    ("a", 210, 100.0, None),
    ("b", 104, 40.0, None),
    ("b", 210, 30.0, None),
    ("b", 280, 30.0, None),
    ("c", 313, 60.0, 45),
    ("c", 316, 40.0, 24),
    ("d", 302, 100.0, 46),
    ("e", 302, 100.0, None),
    ("f", 514, 100.0, None),
]


def write(
    path: Path, *, layer: str = "SAR_18_T_POLIGONOS", drop: tuple[str, ...] = (), case: str = "upper"
) -> Path:
    shapes = [
        shapely.box(LEFT + SIDE * n, BOTTOM, LEFT + SIDE * (n + 1), BOTTOM + SIDE)
        for n in range(len(POLYGONS))
    ]
    columns = ("ID_POLYGON", "ROTULO", "ID_COBERTURA_MAX", "FCCARB", "LIDAR_POR_ARB")
    frame = gpd.GeoDataFrame(
        {name: list(values) for name, values in zip(columns, zip(*POLYGONS, strict=True), strict=True)},
        geometry=shapes,
        crs="EPSG:25830",
    ).drop(columns=list(drop))
    frame["FECHA_REF"] = "2017-06-01"
    if case == "lower":
        frame = frame.rename(columns=str.lower)
    pyogrio.write_dataframe(frame, path, layer=layer, driver="GPKG")
    values = pd.DataFrame(PARTS, columns=["ID_POLYGON", "ID_COBERTURA", "SUPERF_POR_SINREDONDEO", "FF_SP"])
    values["FF_SP"] = values["FF_SP"].astype("Int32")
    pyogrio.write_dataframe(values, path, layer="sar_18_t_valores", driver="GPKG", append=True)
    return path


def classify(path: Path, legend: Legend, rules: SioseRules | None = None) -> dict[str, str]:
    classes = write_siose_classes(
        open_siose(path), path.with_name("classes.gpkg"), legend=legend, rules=rules
    )
    frame = gpd.read_file(classes.path)
    return dict(zip(frame["ID_POLYGON"], frame["CODE"], strict=True))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("CHE", (Cover(100, "CHE"),)),
        ("66PAV_34EDF", (Cover(66, "PAV"), Cover(34, "EDF"))),
        ("ARBpl", (Cover(100, "ARB", ("pl",)),)),
        ("70FDPpl_30CNFpl", (Cover(70, "FDP", ("pl",)), Cover(30, "CNF", ("pl",)))),
        ("ARBfrpl", (Cover(100, "ARB", ("fr", "pl")),)),
    ],
)
def test_a_rotulo_is_read_by_its_grammar(text: str, parts: tuple[Cover, ...]) -> None:
    assert parse_rotulo(text) == parts


@pytest.mark.parametrize("text", ["", "che", "66PAV-34EDF", "PAVx", "1000PAV"])
def test_what_is_not_a_rotulo_is_reported(text: str) -> None:
    with pytest.raises(InputError, match="not of the form"):
        parse_rotulo(text)


@given(st.lists(st.tuples(st.integers(1, 100), st.sampled_from(sorted(COVERS))), min_size=2, max_size=6))
def test_a_rotulo_that_is_written_is_read_again(parts: list[tuple[int, str]]) -> None:
    text = "_".join(f"{percent}{label}" for percent, label in parts)
    assert [(cover.percent, cover.label) for cover in parse_rotulo(text)] == parts


def test_every_cover_has_one_label_and_every_virtual_cover_type_a_rotulo() -> None:
    assert sorted(COVERS.values()) == sorted(open_legend("siose-ar").codes)
    assert all(COVERS[label] == code for code, label in LABELS.items())
    for cover_type in COVER_TYPES:
        assert [COVERS[part.label] for part in parse_rotulo(rotulo(cover_type))] == [
            part.cover for part in cover_type.parts
        ]


def test_majority_takes_the_largest_cover_and_composite_the_largest_class(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    majority = classify(path, CONTEXT)
    assert majority == {
        "a": "crops",
        "b": "artificial",
        "c": "forest",
        "d": "forest",
        "e": "pasture",
        "f": "water",
    }
    composite = classify(path, CONTEXT, SioseRules(mode="composite"))
    assert composite == majority | {"b": "crops"}  # 30 + 30 of two covers beat 40 of one
    strict = classify(path, CONTEXT, SioseRules(mode="composite", min_share=0.7))
    assert "b" not in strict


def test_wooded_pasture_is_forest_from_the_least_canopy_on(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    assert classify(path, CONTEXT, SioseRules(canopy_percent=10))["e"] == "forest"
    assert classify(path, CONTEXT, SioseRules(canopy_percent=31))["d"] == "pasture"


def test_tree_cover_comes_from_covers_fccarb_or_lidar(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    assert [key for key, code in classify(path, TREES).items() if code == "tree"] == ["c", "d"]
    by_map = classify(path, TREES, SioseRules(trees="fccarb", canopy_percent=50))
    outside = dict.fromkeys("abf", "open")  # of the forest map: their covers have no trees
    assert by_map == {"c": "tree", "d": "open", "e": "open", **outside}
    sparse = classify(path, TREES, SioseRules(trees="fccarb", canopy_percent=50, open_percent=12))
    assert by_map.items() - sparse.items() == {("d", "open")}, "too dense to be open, too sparse to be tree"
    with pytest.raises(RecipeError, match="open_percent is 60, but must be from 0 to canopy_percent"):
        SioseRules(open_percent=60, canopy_percent=50)
    by_lidar = classify(path, TREES, SioseRules(trees="lidar", canopy_percent=28))
    assert [key for key, code in by_lidar.items() if code == "tree"] == ["c", "e"]


def test_species_are_those_of_ff_sp_and_else_the_leaf_type(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    assert classify(path, species_legend(("45", "46"))) == {"c": "45", "d": "46"}
    assert classify(path, species_legend(("46",))) == {"c": "FDP", "d": "46"}
    assert classify(path, species_legend()) == {"c": "FDP", "d": "FDP"}
    assert classify(path, open_legend("mfe-species-1")) == {"c": "FDP", "d": "FDP", "e": "ARB"}
    mixed = classify(path, species_legend(("45",)), SioseRules(min_share=0.7))
    assert "c" not in mixed  # 60 of 100 trees are no pure stand


def test_names_of_layers_and_columns_are_matched_without_case(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg", layer="sar_18_t_poligonos", case="lower")
    assert classify(path, CONTEXT, SioseRules(mode="composite"))["b"] == "crops"


def test_the_rotulo_replaces_a_missing_cover_column(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg", drop=("ID_COBERTURA_MAX",))
    assert classify(path, CONTEXT)["b"] == "artificial"


def test_the_combined_layer_serves_where_there_are_no_polygons(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg", layer="SAR_18_T_COMBINADA", drop=("ID_POLYGON", "ROTULO"))
    classes = write_siose_classes(open_siose(path), tmp_path / "c.gpkg", legend=CONTEXT)
    assert classes.written == 6
    with pytest.raises(InputError, match="no table T_VALORES"):
        write_siose_classes(open_siose(path), tmp_path / "c.gpkg", legend=species_legend())


def test_small_and_strange_polygons_are_counted_not_drawn(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    with pytest.raises(InputError, match="6 are too small"):
        write_siose_classes(
            open_siose(path), tmp_path / "c.gpkg", legend=CONTEXT, rules=SioseRules(min_area_m2=10_001)
        )
    frame = gpd.read_file(path, layer="SAR_18_T_POLIGONOS")
    frame.loc[0, "ID_COBERTURA_MAX"] = 317  # a legacy code of IGN's own style
    other = tmp_path / "19.gpkg"
    pyogrio.write_dataframe(frame, other, layer="SAR_19_T_POLIGONOS", driver="GPKG")
    classes = write_siose_classes(open_siose(other), tmp_path / "c.gpkg", legend=CONTEXT)
    assert (classes.written, classes.without_class, dict(classes.unknown)) == (5, 1, {"317": 1})


def test_batches_do_not_change_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "18.gpkg")
    whole = classify(path, CONTEXT, SioseRules(mode="composite"))
    monkeypatch.setattr(siose_classes, "BATCH", 2)
    assert classify(path, CONTEXT, SioseRules(mode="composite")) == whole


def test_polygons_are_cut_at_the_outline_of_the_sheet(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    outlines = tmp_path / "mtn50.gpkg"
    box = shapely.box(LEFT, BOTTOM, LEFT + 150, BOTTOM + 50)
    sheets = gpd.GeoDataFrame(
        {"MTN50_CLAS": ["0559", "1106/1107"]},
        geometry=[box, shapely.box(0, 0, 1, 1)],
        crs="EPSG:25830",
    ).to_crs(4258)
    sheets.to_file(outlines)
    outline = read_sheet(outlines, "559", crs="EPSG:25830")
    classes = write_siose_classes(open_siose(path), tmp_path / "c.gpkg", legend=CONTEXT, within=outline)
    assert sum(classes.area_m2.values()) == pytest.approx(150 * 50, rel=1e-3)
    assert not read_sheet(outlines, "1107", crs="EPSG:25830").is_empty
    with pytest.raises(InputError, match="has no sheet '7'"):
        read_sheet(outlines, "7", crs="EPSG:25830")


def grid(*, epsg: int = 25830, left: float = LEFT) -> GeoBox:
    return GeoBox((10, 60), Affine(10, 0, left, 0, -10, BOTTOM + SIDE), f"EPSG:{epsg}")


def test_labels_hold_the_class_of_each_polygon(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    labels, classes = label_siose(path, tmp_path / "labels.tif", like=grid(), legend=CONTEXT)
    with MapReader(labels) as reader:
        values = reader.read(grid())
    assert isinstance(classes, SioseClasses)
    order = ("crops", "artificial", "forest", "forest", "pasture", "water")
    assert np.array_equal(
        values, np.repeat([[CONTEXT[code].value for code in order]], 10, axis=1).repeat(10, axis=0)
    )


def test_a_file_of_another_area_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    with pytest.raises(GridError, match="do not overlap"):
        label_siose(path, tmp_path / "labels.tif", like=grid(left=LEFT + 50_000), legend=CONTEXT)
    assert not (tmp_path / "labels.tif").exists()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("PNOA_MA_OF_ETRS89_HU30_h50_0557.ecw", PnoaName("0557", None, 30, None)),
        ("PNOA_MA_OF_ETRS89_HU30_h25_0559_1.tif", PnoaName("0559", 1, 30, None)),
        ("sheets/pnoa_2017_of_etrs89_hu29_h25_0050_4.tif", PnoaName("0050", 4, 29, 2017)),
        ("scene_july.tif", None),
        ("PNOA_MA_OF_ETRS89_HU32_h25_0559_1.tif", None),
    ],
)
def test_a_pnoa_name_contains_sheet_zone_and_year(name: str, wanted: PnoaName | None) -> None:
    assert PnoaName.parse(name) == wanted


def test_zones_are_never_mixed_silently() -> None:
    name = "PNOA_MA_OF_ETRS89_HU29_h25_0050_1.tif"
    with pytest.raises(GridError, match=r"zone 29 \(EPSG:25829\), the file is in EPSG:25830"):
        check_zone(name, grid(epsg=25830))
    assert check_zone(name, grid(epsg=25829)) is not None
    with pytest.raises(InputError, match="several sheets or zones"):
        check_one_sheet([name, "PNOA_MA_OF_ETRS89_HU30_h25_0050_2.tif"])


def test_the_command_recognises_the_file_by_its_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "18.gpkg")
    assert is_siose(path)
    image = write_bands(tmp_path / "scene.tif", np.ones((1, 10, 60), np.uint8), grid(), names=("red",))
    out = tmp_path / "labels.tif"
    assert main(["label", str(path), "--like", str(image), "--legend", "lulucf-context", "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "forest" in printed
    assert "2.00" in printed
    code = main(
        [
            "label",
            str(path),
            "--like",
            str(image),
            "--legend",
            "lulucf-context",
            "--mode",
            "most",
            "-o",
            str(out),
        ]
    )
    assert code == 1
    assert "must be majority or composite" in capsys.readouterr().err


def test_wrong_files_legends_and_rules_are_reported_with_a_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "18.gpkg")
    plain = tmp_path / "plain.gpkg"
    gpd.GeoDataFrame({"x": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=25830).to_file(plain)
    assert not is_siose(plain)
    with pytest.raises(InputError, match="not a SIOSE AR GeoPackage"):
        open_siose(plain)
    own = Legend("own", (LandClass(1, "a", "A", "#000000"),))
    with pytest.raises(LegendError, match="not to 'own'"):
        write_siose_classes(open_siose(path), tmp_path / "c.gpkg", legend=own)
    with pytest.raises(RecipeError, match="min_share is 2, but must be from 0 to 1"):
        SioseRules(min_share=2)
    drifted = write(tmp_path / "19.gpkg", drop=("LIDAR_POR_ARB",))
    with pytest.raises(InputError, match="has no LIDAR_POR_ARB"):
        write_siose_classes(
            open_siose(drifted), tmp_path / "c.gpkg", legend=TREES, rules=SioseRules(trees="lidar")
        )
