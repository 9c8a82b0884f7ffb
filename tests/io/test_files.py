"""Manifests, legend tables and polygon layers as files."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from tesela.core import GridError, InputError, LandClass, Legend, LegendError
from tesela.io import (
    Manifest,
    fingerprint,
    list_legends,
    open_crosswalk,
    open_layer,
    open_legend,
    read_layer,
    write_whole,
)
from tesela.io.vector import parquet

CSV = """level,value,code,name,color,parent
1,1,a,Ä,#ff0000,
1,2,b,B,#00ff00,
2,5,a1,A1,#ff0001,a
2,6,b1,B1,#00ff01,b
"""


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    first = Manifest("label", {"size_px": 256, "bands": ["red"]}, {"a.tif": "12"}, legend="corine-2", seed=3)
    first.write(tmp_path)
    again = Manifest.read(tmp_path)
    assert again is not None
    assert again.same_work(first)
    assert first.same_work(again)
    assert again.versions["numpy"] == np.__version__
    assert again.written.endswith("Z")


@pytest.mark.parametrize(
    "change",
    [
        {"step": "patch"},
        {"settings": {"size_px": 128}},
        {"inputs": {"a.tif": "13"}},
        {"legend": "lulucf"},
        {"seed": 4},
    ],
)
def test_other_settings_inputs_or_seeds_are_other_work(change: dict[str, object]) -> None:
    base = {
        "step": "label",
        "settings": {"size_px": 256},
        "inputs": {"a.tif": "12"},
        "legend": "corine",
        "seed": 3,
    }
    assert not Manifest(**base).same_work(Manifest(**(base | change)))  # type: ignore[arg-type]
    later = Manifest(**base, seconds=9, written="2030", versions={"numpy": "9"})  # type: ignore[arg-type]
    assert Manifest(**base).same_work(later)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, "", "{", '{"unknown": 1}', "[1]", "null"])
def test_a_manifest_that_cannot_be_read_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    assert Manifest.read(tmp_path) is None


def test_a_fingerprint_sees_a_change_of_any_byte(tmp_path: Path) -> None:
    content = bytearray(5 << 20)
    path = tmp_path / "a.bin"
    seen = set()
    for position in (None, 0, len(content) // 3, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        if position is not None:
            changed[position] = 1
        path.write_bytes(changed)
        seen.add(fingerprint(path))
    path.write_bytes(content + b"\0")
    seen.add(fingerprint(path))
    assert len(seen) == 6
    path.write_bytes(content)
    assert fingerprint(path) in seen
    with pytest.raises(InputError, match=r"gone\.bin: cannot be read \(No such file"):
        fingerprint(tmp_path / "gone.bin")


def test_an_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with write_whole(target) as part:
        part.write_text("first")
        assert not target.exists()
    assert target.read_text() == "first"

    def fail() -> None:
        with write_whole(target) as part:
            part.write_text("sec")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert target.read_text() == "first"
    assert [item.name for item in target.parent.iterdir()] == ["a.txt"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written"),
        write_whole(tmp_path / "file" / "a.txt"),
    ):
        pass
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with (
        pytest.raises(InputError, match=r"folder: cannot be written"),
        write_whole(tmp_path / "folder") as part,
    ):
        part.write_text("x")
    with (
        pytest.raises(InputError, match=r"never\.txt: cannot be written"),
        write_whole(tmp_path / "never.txt"),
    ):
        pass  # nothing was written to the part


def test_legends_are_found_by_name_level_and_path(tmp_path: Path) -> None:
    assert {"corine", "lulucf", "sipna"} <= set(list_legends())
    assert open_legend("corine") == open_legend("corine-3")
    assert open_legend("corine-2") == open_legend("corine").level(2)
    path = tmp_path / "mine.csv"
    path.write_text("\ufeff" + CSV + "\n , ,\n".replace(" ", ""), encoding="utf-8")
    assert open_legend(path).codes == ("a1", "b1")
    assert open_legend(f"{path}-1").names == ("Ä", "B")
    assert open_legend(f"{path}-1") == open_legend(path).level(1)


def test_legends_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(LegendError, match=r"Unknown legend 'corrine': did you mean 'corine'.*ends in \.csv"):
        open_legend("corrine")
    with pytest.raises(LegendError, match="has levels 1 to 3; there is no level 4"):
        open_legend("corine-4")
    with pytest.raises(LegendError, match=r"legend file .*gone\.csv does not exist"):
        open_legend(tmp_path / "gone.csv")
    (tmp_path / "latin.csv").write_bytes(CSV.encode("latin-1"))
    assert open_legend(f"{tmp_path}/latin.csv-1").names == ("Ä", "B")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(LegendError, match="has no column value, code, name; its first row is empty"):
        open_legend(tmp_path / "empty.csv")


def test_crosswalks_come_from_the_package_a_file_or_the_tree_itself(tmp_path: Path) -> None:
    lulucf = open_legend("lulucf")
    assert open_crosswalk("corine", lulucf).main_target["311"] == lulucf["forest_land"].value
    assert open_crosswalk("corine-3", lulucf) == open_crosswalk("corine", lulucf)
    assert open_crosswalk("corine", open_legend("corine-1")).main_target["311"] == 3
    target = Legend("t", (LandClass(1, "x", "X", "#000000"),))
    (tmp_path / "crosswalk.csv").write_text("from,to,share,note\na,x,,all of it\nb,nodata,1,\n")
    crosswalk = open_crosswalk("mine", target, path=tmp_path / "crosswalk.csv")
    assert crosswalk.main_target == {"a": 1, "b": 0}
    with pytest.raises(
        LegendError,
        match=r"No crosswalk from 'corine' to 't' is shipped, nor a way over two \(shipped from 'corine': to lulucf",
    ):
        open_crosswalk("corine", target)
    with pytest.raises(LegendError, match=r"crosswalk file .*gone\.csv does not exist"):
        open_crosswalk("mine", target, path=tmp_path / "gone.csv")


def test_a_legend_of_ones_own_goes_to_its_coarser_level(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(CSV, encoding="utf-8")
    assert open_crosswalk(str(path), open_legend(f"{path}-1")).main_target == {"a1": 1, "b1": 2}


def squares(path: Path, *, count: int = 9) -> Path:
    """Squares of 10 m in a row, numbered from the left."""
    shapes = [shapely.box(10 * n, 0, 10 * n + 10, 10) for n in range(count)]
    frame = gpd.GeoDataFrame({"code": range(count), "name": "x"}, geometry=shapes, crs="EPSG:25830")
    if path.suffix == ".parquet":
        frame.to_parquet(path, write_covering_bbox=path.stem == "covered")
    else:
        frame.to_file(path, engine="pyogrio")
    return path


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.parquet", "covered.parquet", "a.fgb"])
def test_layers_are_described_and_read_by_bounds_in_the_order_of_the_file(tmp_path: Path, name: str) -> None:
    layer = open_layer(squares(tmp_path / name))
    assert (layer.count, set(layer.fields), layer.bounds) == (9, {"code", "name"}, (0, 0, 90, 10))
    assert read_layer(layer)["code"].tolist() == list(range(9)) if name != "a.fgb" else True
    frame = read_layer(layer, bounds=(25, 2, 45, 3), columns=["code"])
    assert sorted(frame["code"].tolist()) == [2, 3, 4]
    assert list(frame.columns) == ["code", "geometry"]
    assert frame.crs.to_epsg() == 25830
    assert read_layer(layer, bounds=(500, 0, 600, 10), columns=["code"]).empty


def test_a_covered_geoparquet_is_never_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = squares(tmp_path / "covered.parquet")

    def whole(path: str) -> gpd.GeoDataFrame:
        raise AssertionError(f"{path} was read whole")

    monkeypatch.setattr(parquet, "_whole", whole)
    layer = open_layer(path)
    assert (layer.count, layer.bounds) == (9, (0, 0, 90, 10))
    assert read_layer(layer, bounds=(25, 2, 45, 3))["code"].tolist() == [2, 3, 4]


def test_a_layer_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = squares(tmp_path / "a.parquet")
    assert len(read_layer(open_layer(path))) == 9
    squares(path, count=4)
    assert len(read_layer(open_layer(path))) == 4


def test_fields_are_found_without_regard_to_case(tmp_path: Path) -> None:
    layer = open_layer(squares(tmp_path / "a.gpkg"))
    assert layer.require_field("CODE") == "code"
    with pytest.raises(
        InputError, match=r"a\.gpkg: Unknown field 'coda': did you mean 'code'\? Known: code, name"
    ):
        layer.require_field("coda")


@pytest.mark.parametrize("name", ["a.gpkg", "a.parquet", "covered.parquet", "a.shp"])
def test_broken_layers_are_told(tmp_path: Path, name: str) -> None:
    path = squares(tmp_path / name)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=rf"{name}: (not a|cannot be read|its .shp is cut)"):
        read_layer(open_layer(path))
    with pytest.raises(InputError, match=r"gone\.gpkg: no such file"):
        open_layer(tmp_path / "gone.gpkg")


@pytest.mark.parametrize("part", [".shp", ".dbf", ".shx"])
def test_a_shapefile_with_a_part_that_is_cut_is_refused(tmp_path: Path, part: str) -> None:
    """GDAL reads the features that are left, and says nothing."""
    path = squares(tmp_path / "a.shp")
    assert len(read_layer(open_layer(path))) == 9
    file = path.with_suffix(part)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=rf"a\.shp: its {part} is cut \("):
        open_layer(path)


def test_a_shapefile_with_the_table_of_another_is_refused(tmp_path: Path) -> None:
    path = squares(tmp_path / "a.shp")
    path.with_suffix(".dbf").write_bytes(
        squares(tmp_path / "b.shp", count=4).with_suffix(".dbf").read_bytes()
    )
    with pytest.raises(InputError, match=r"has 9 shapes, but 4 rows in its \.dbf"):
        open_layer(path)
    path.with_suffix(".dbf").unlink()
    with pytest.raises(InputError, match=r"has no field 'code', as it has no fields at all"):
        open_layer(path).require_field("code")


def test_layers_without_a_place_on_the_earth_are_refused(tmp_path: Path) -> None:
    shape = [shapely.box(0, 0, 10, 10)]
    local = 'LOCAL_CS["drawing",UNIT["metre",1]]'
    gpd.GeoDataFrame({"code": [1]}, geometry=shape, crs=local).to_file(tmp_path / "a.shp", engine="pyogrio")
    with pytest.raises(GridError, match=r"'drawing' is a local one .*ogr2ogr -a_srs"):
        open_layer(tmp_path / "a.shp")
    pd.DataFrame({"code": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="it lacks geo, as a plain Parquet does"):
        open_layer(tmp_path / "a.parquet")


def test_layers_of_points_are_no_reference(tmp_path: Path) -> None:
    points = gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 0)], crs=25830)
    points.to_file(tmp_path / "p.gpkg", engine="pyogrio")
    with pytest.raises(InputError, match=r"has 0 polygon layers \(none\); a reference needs polygons"):
        open_layer(tmp_path / "p.gpkg")


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    path = Manifest("label", {"path": Path("a")}, seconds=1.5).write(tmp_path)
    document = json.loads(path.read_text())
    assert document["settings"] == {"path": "a"}
    assert document["seconds"] == 1.5
