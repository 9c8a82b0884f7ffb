"""The door for polygons: any kind of geometry, file, encoding, field and layer is read right or refused in one line."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import zipfile
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from tesela.core.errors import InputError
from tesela.core.polygons import find_overlaps, mend_polygons, separate_polygons
from tesela.core.wkb import decode_polygons
from tesela.io.layers import write_layer
from tesela.io.vector import is_vector, open_layer, parse_address, read_layer, separate_layer

ARC, LINE, CHAIN, CURVE_POLYGON, MULTI_SURFACE, COLLECTION = 8, 2, 9, 10, 12, 7


def line(points: list[tuple[float, ...]], kind: int = LINE) -> bytes:
    return struct.pack("<BII", 1, kind, len(points)) + b"".join(
        struct.pack(f"<{len(point)}d", *point) for point in points
    )


def group(kind: int, *parts: bytes) -> bytes:
    return struct.pack("<BII", 1, kind, len(parts)) + b"".join(parts)


CIRCLE = line([(0, 5), (5, 10), (10, 5), (5, 0), (0, 5)], ARC)
WHOLE_CIRCLE = line([(0, 5), (10, 5), (0, 5)], ARC)


def squares(count: int = 2, **fields: list[object]) -> gpd.GeoDataFrame:
    """Squares of 10 m in a row."""
    shapes = [shapely.box(10 * n, 0, 10 * n + 10, 10) for n in range(count)]
    return gpd.GeoDataFrame({"code": [str(n) for n in range(count)], **fields}, geometry=shapes, crs=25830)


def with_geometry(path: Path, wkb: bytes, *, declared: str | None = None) -> Path:
    """A GeoPackage of two squares, the geometry of the second replaced."""
    squares().to_file(path, layer="clc", SPATIAL_INDEX="NO", promote_to_multi=True, engine="pyogrio")
    with closing(sqlite3.connect(path)) as base, base:
        srs = base.execute("select srs_id from gpkg_geometry_columns").fetchone()[0]
        blob = b"GP\x00\x01" + struct.pack("<i", srs) + wkb
        base.execute("update clc set geom = ? where fid = 2", (blob,))
        if declared:
            base.execute("update gpkg_geometry_columns set geometry_type_name = ?", (declared,))
    return path


# --- geometries ---


@pytest.mark.parametrize(
    ("wkb", "area"),
    [
        (group(CURVE_POLYGON, CIRCLE), 25 * math.pi),
        (group(CURVE_POLYGON, WHOLE_CIRCLE), 25 * math.pi),
        (group(MULTI_SURFACE, group(CURVE_POLYGON, CIRCLE)), 25 * math.pi),
        (
            group(COLLECTION, group(COLLECTION, group(CURVE_POLYGON, CIRCLE)), line([(0, 0), (9, 9)])),
            25 * math.pi,
        ),
        (
            group(
                CURVE_POLYGON, group(CHAIN, line([(10, 5), (5, 10), (0, 5)], ARC), line([(0, 5), (10, 5)]))
            ),
            12.5 * math.pi,
        ),
        (
            group(CURVE_POLYGON, line([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)]), CIRCLE),
            100 - 25 * math.pi,
        ),
    ],
    ids=["arcs", "circle of two points", "multisurface", "nested collection", "chain", "hole"],
)
def test_curves_have_their_area(
    tmp_path: Path, wkb: bytes, area: float, caplog: pytest.LogCaptureFixture
) -> None:
    layer = open_layer(with_geometry(tmp_path / "c.gpkg", wkb))
    assert read_layer(layer).area.tolist() == pytest.approx([100, area], rel=2e-4)
    assert "c.gpkg: 1 polygon with arcs (feature 2)" in caplog.text


def test_two_neighbours_along_one_arc_share_it_exactly() -> None:
    arc = [(10.0, 0.0), (13.0, 5.0), (10.0, 10.0)]
    left = group(CURVE_POLYGON, group(CHAIN, line(arc, ARC), line([arc[2], (0, 10), (0, 0), arc[0]])))
    right = group(
        CURVE_POLYGON, group(CHAIN, line(arc[::-1], ARC), line([arc[0], (20, 0), (20, 10), arc[2]]))
    )
    one, other = decode_polygons(left).shape, decode_polygons(right).shape
    assert one.intersection(other).area == 0
    assert one.area + other.area == pytest.approx(200, rel=1e-12)


@pytest.mark.parametrize(
    "declared", ["CURVEPOLYGON", "MULTISURFACE", "GEOMETRYCOLLECTION", "GEOMETRY", "SURFACE"]
)
def test_a_layer_of_any_declared_kind_of_area_is_found(tmp_path: Path, declared: str) -> None:
    path = with_geometry(tmp_path / "c.gpkg", shapely.to_wkb(shapely.box(10, 0, 20, 10)), declared=declared)
    assert read_layer(open_layer(path)).area.sum() == 200


@pytest.mark.parametrize("kind", ["Z", "M", "ZM"])
@pytest.mark.parametrize("extended", [False, True], ids=["ISO", "EWKB"])
def test_heights_and_measures_are_dropped(tmp_path: Path, kind: str, extended: bool) -> None:
    corners = [(10, 0), (20, 0), (20, 10), (10, 10), (10, 0)]
    more = (7.0,) * len(kind)
    number = 3 + 1000 * {"Z": 1, "M": 2, "ZM": 3}[kind]
    if extended:
        number = 3 | (0x80000000 if "Z" in kind else 0) | (0x40000000 if "M" in kind else 0)
    ring = b"".join(struct.pack(f"<{2 + len(more)}d", *corner, *more) for corner in corners)
    wkb = struct.pack("<BIII", 1, number, 1, len(corners)) + ring
    assert decode_polygons(wkb).shape.area == 100
    if not extended:
        frame = read_layer(open_layer(with_geometry(tmp_path / "m.gpkg", wkb)))
        assert frame.area.tolist() == [100, 100]
        assert not frame.has_z.any()


def test_collections_are_taken_apart_whatever_their_depth() -> None:
    box = shapely.box(0, 0, 2, 1)
    deep = shapely.GeometryCollection(
        [shapely.GeometryCollection([box, shapely.LineString([(0, 0), (9, 9)])])]
    )
    mended = mend_polygons(
        np.array([deep, shapely.LineString([(0, 0), (1, 1)]), None, shapely.Polygon()], object)
    )
    assert shapely.area(mended.shapes).tolist() == [2, 0, 0, 0]
    assert (mended.without_area.tolist(), mended.missing.tolist()) == ([1], [2, 3])


def test_parts_of_one_multipolygon_that_overlap_count_once() -> None:
    parts = shapely.MultiPolygon([shapely.box(0, 0, 2, 1), shapely.box(1, 0, 3, 1)])
    mended = mend_polygons(np.array([parts], object))
    assert (mended.shapes[0].area, mended.crossing.tolist()) == (3, [0])


def write_geojson(path: Path, rings: list[list[list[float]]]) -> Path:
    rows = [
        {
            "type": "Feature",
            "properties": {"code": str(n)},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for n, ring in enumerate(rings)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25830"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": rows}))
    return path


def test_open_and_short_rings_are_closed_or_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]]
    path = write_geojson(tmp_path / "r.geojson", [[*good, good[0]], good, good[:2], [*good[:2], good[0]]])
    assert read_layer(open_layer(path)).area.tolist() == [100, 100, 0, 0]
    assert (
        "2 polygons with rings that are open or have fewer than three corners (feature 1, 2)" in caplog.text
    )
    assert "1 polygon without an area" in caplog.text


def test_bytes_that_end_early_are_refused_with_the_feature(tmp_path: Path) -> None:
    path = with_geometry(tmp_path / "c.gpkg", group(CURVE_POLYGON, CIRCLE)[:-8])
    with pytest.raises(InputError, match=r"c\.gpkg: the geometry of feature 2 is damaged"):
        read_layer(open_layer(path))
    with pytest.raises(ValueError, match="end too early"):
        decode_polygons(struct.pack("<BII", 1, 3, 2**31))
    with pytest.raises(ValueError, match="does not exist"):
        decode_polygons(struct.pack("<BII", 1, 77, 1))


def test_a_coordinate_that_is_no_number_is_refused_with_the_feature(tmp_path: Path) -> None:
    ring = [(10, 0), (20, math.inf), (20, 10), (10, 10), (10, 0)]
    wkb = struct.pack("<BIII", 1, 3, 1, len(ring)) + b"".join(struct.pack("<2d", *corner) for corner in ring)
    with pytest.raises(InputError, match=r"feature 2 has a coordinate that is not a number"):
        read_layer(open_layer(with_geometry(tmp_path / "c.gpkg", wkb)))


def test_geoparquet_with_broken_geometries_is_read_too(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    squares(3).to_parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    shapes = table.column("geometry").to_pylist()
    shapes[1] = group(CURVE_POLYGON, CIRCLE)
    table = table.set_column(table.column_names.index("geometry"), "geometry", pa.array(shapes, pa.binary()))
    pq.write_table(table, tmp_path / "b.parquet")
    layer = open_layer(tmp_path / "b.parquet")
    assert read_layer(layer).area.tolist() == pytest.approx([100, 25 * math.pi, 100], rel=2e-4)
    assert read_layer(layer, bounds=(22, 2, 23, 3))["code"].tolist() == ["2"]


# --- overlaps ---


def test_the_later_polygon_has_the_ground_under_two() -> None:
    forest, lake, island = shapely.box(0, 0, 10, 10), shapely.box(2, 2, 6, 6), shapely.box(3, 3, 4, 4)
    apart = separate_polygons(np.array([forest, lake, island, shapely.box(10, 0, 20, 10)], object))
    assert shapely.area(apart.shapes).tolist() == [84, 15, 1, 100]
    assert apart.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert shapely.area(apart.shared).tolist() == [16, 1, 1]


def test_every_kind_of_overlap_is_found_and_a_coverage_has_none() -> None:
    rng = np.random.default_rng(0)
    cells = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(rng.random((200, 2)) * 100)))
    assert len(find_overlaps(np.asarray(cells, object))[0]) == 0
    inner, crossing = shapely.Point(50, 50).buffer(0.5), shapely.box(40, 40, 44, 44)
    shapes = np.array([*cells, cells[7], inner, crossing], object)
    pairs, shared = find_overlaps(shapes)
    areas = shapely.area(shared)
    for index in (200, 201, 202):  # a duplicate, a nested one, one across borders
        below = areas[(pairs == index).any(axis=1)].sum()
        assert below == pytest.approx(sum(shapes[index].intersection(cell).area for cell in cells))


@pytest.mark.parametrize("seed", range(4))
def test_all_overlaps_of_two_coverages_are_found_however_their_rings_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = shapely.box(-9, -9, 19, 19)
    layers = [
        shapely.get_parts(
            shapely.voronoi_polygons(shapely.MultiPoint(rng.random((count, 2)) * 10), extend_to=frame)
        )
        for count in (30, 40)
    ]
    pieces = [shapely.union(*layers[0][[3, 20]]), *np.delete(layers[0], [3, 20]), shapely.Polygon()]
    stacked = {0: pieces, 1: [*pieces, *layers[1]], 2: [*pieces, *pieces], 3: [*pieces, *layers[1], *pieces]}
    shapes = np.array([shape if rng.random() < 0.5 else shape.reverse() for shape in stacked[seed]], object)
    one, other = shapely.STRtree(shapes).query(shapes)
    both = np.stack([one, other], axis=1)[one < other]
    real = both[shapely.area(shapely.intersection(*shapes[both].T)) > 1e-6]
    assert find_overlaps(shapes)[0].tolist() == sorted(real.tolist())
    assert bool(len(real)) == (seed > 0)


def test_overlaps_are_told_with_features_and_hectares(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = squares()
    frame.geometry = [shapely.box(0, 0, 200, 100), shapely.box(100, 0, 300, 100)]
    for crs, ha in (("EPSG:25830", 1.0), ("EPSG:2229", 0.0929)):  # the second one is in feet
        caplog.clear()
        frame.set_crs(crs, allow_override=True).to_file(tmp_path / "o.gpkg", engine="pyogrio")
        layer = open_layer(tmp_path / "o.gpkg")
        assert shapely.area(separate_layer(layer, read_layer(layer))).tolist() == [10_000, 20_000]
        separate_layer(layer, read_layer(layer))  # a second window counts nothing twice
        layer.report()
        assert f"1 overlap of polygons, {ha:.4f} ha in all (feature 2 over 1)" in caplog.text


# --- files ---


def shapefile(folder: Path, *, encoding: str, cpg: str | None) -> Path:
    path = folder / "provinces.shp"
    frame = squares(AÑO=["Castelló", "Ávila"])
    frame.to_file(path, encoding=encoding, engine="pyogrio")
    data = bytearray(path.with_suffix(".dbf").read_bytes())
    data[29] = 0  # no language driver
    path.with_suffix(".dbf").write_bytes(data)
    path.with_suffix(".cpg").unlink(missing_ok=True)
    if cpg is not None:
        path.with_suffix(".cpg").write_text(cpg)
    return path


@pytest.mark.parametrize("cpg", [None, "UTF-8", "ISO-8859-1", "88591", "1252", "ANSI 1252", "nonsense"])
@pytest.mark.parametrize("encoding", ["ISO-8859-1", "UTF-8"])
@pytest.mark.filterwarnings("ignore")
def test_names_of_a_shapefile_are_read_whatever_its_cpg_says(
    tmp_path: Path, encoding: str, cpg: str | None
) -> None:
    layer = open_layer(shapefile(tmp_path, encoding=encoding, cpg=cpg))
    assert layer.fields == ("code", "AÑO")
    assert read_layer(layer, columns=["AÑO"])["AÑO"].tolist() == ["Castelló", "Ávila"]


@pytest.mark.filterwarnings("ignore")
def test_a_code_page_of_dos_is_believed(tmp_path: Path) -> None:
    assert read_layer(open_layer(shapefile(tmp_path, encoding="CP850", cpg="850")))["AÑO"][0] == "Castelló"


def zipped(path: Path, *files: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, f"{inside}{file.name}")
    return path


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    squares().to_file(tmp_path / "r.gpkg", layer="clc", engine="pyogrio")
    parts = sorted(shapefile(tmp_path, encoding="ISO-8859-1", cpg=None).parent.glob("provinces.*"))
    zipped(tmp_path / "shape.zip", *parts, inside="inner folder/")
    zipped(tmp_path / "r.gpkg.zip", tmp_path / "r.gpkg")
    zipped(tmp_path / "both.zip", tmp_path / "r.gpkg", *parts)
    (tmp_path / "readme.txt").write_text("text")
    zipped(tmp_path / "none.zip", tmp_path / "readme.txt")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 cut")
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_zipped_vectors_are_read(archives: Path) -> None:
    for name in (
        f"{archives}/shape.zip",
        f"{archives}/r.gpkg.zip",
        f"zip://{archives}/both.zip!provinces.shp",
        f"/vsizip/{archives}/both.zip/r.gpkg",
        f"/vsizip/{str(archives).lstrip('/')}/both.zip/r.gpkg",
        f"/vsizip/{archives}/r.gpkg.zip",
    ):
        assert is_vector(name)
        assert read_layer(open_layer(name)).area.tolist() == [100, 100], name
    assert read_layer(open_layer(archives / "shape.zip"))["AÑO"].tolist() == ["Castelló", "Ávila"]


@pytest.mark.filterwarnings("ignore")
def test_zips_that_cannot_be_read_say_why(archives: Path) -> None:
    for name, message in (
        (
            "both.zip",
            r"holds 2 vector files \(r\.gpkg, provinces\.shp\); name one: zip://.*both\.zip!r\.gpkg",
        ),
        ("none.zip", r"holds no vector file; it holds readme\.txt"),
        ("broken.zip", "is empty or no zip file"),
        ("gone.zip", "no such file"),
    ):
        assert is_vector(archives / name)
        with pytest.raises(InputError, match=message):
            open_layer(archives / name)


@pytest.mark.parametrize("name", ["x.tab", "x.geojsonl", "x.fgb", "x.gml", "x.kml", "x.sqlite", "x.unknown"])
@pytest.mark.filterwarnings("ignore")
def test_other_formats_are_vectors(tmp_path: Path, name: str) -> None:
    driver = {".tab": "MapInfo File", ".geojsonl": "GeoJSONSeq", ".unknown": "GeoJSON", ".sqlite": "SQLite"}
    path = tmp_path / name
    frame = squares().to_crs(4326) if name in ("x.geojsonl", "x.kml", "x.unknown") else squares()
    frame.to_file(path, driver=driver.get(path.suffix), engine="pyogrio")
    assert is_vector(path)
    assert len(read_layer(open_layer(path))) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.gml", "its element ogr:FeatureCollection has no end"),
        ("x.geojsonl", "its last feature is no JSON"),
        ("x.geojsons", "its last feature is no JSON"),
        ("x.json", "its last feature is no JSON"),
        ("x.mif", r"it has \d features, but its x\.mid 9 rows"),
    ],
)
def test_text_formats_that_were_cut_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    driver = {".gml": "GML", ".mif": "MapInfo File"}.get(path.suffix, "GeoJSONSeq")
    frame = gpd.GeoDataFrame(
        {"code": ["112", "211", "311"] * 3},
        geometry=[shapely.box(500_000 + 10 * k, 0, 500_009 + 10 * k, 9) for k in range(9)],
        crs="EPSG:25830",
    )
    if driver == "GeoJSONSeq":
        frame = frame.to_crs(4326)
    options = {"RS": "YES"} if name == "x.geojsons" else {}
    frame.to_file(path, driver=driver, engine="pyogrio", **options)
    assert len(read_layer(open_layer(path))) == 9
    data = path.read_bytes()
    for kept in (len(data) * 3 // 4, len(data) - 10):
        path.write_bytes(data[:kept])
        path.with_suffix(".gfs").unlink(missing_ok=True)
        if name != "x.mif" or kept < len(data) * 0.9:
            with pytest.raises(InputError, match=rf"{name}: is cut \({reason}\)"):
                open_layer(path)


def test_a_layer_is_named_beside_the_file_as_in_qgis(tmp_path: Path) -> None:
    for layer in ("clc24", "clc18"):
        squares().to_file(tmp_path / "clc.gpkg", layer=layer, engine="pyogrio")
    with pytest.raises(
        InputError, match=r"2 polygon layers .*; name one \(--layer clc24, or .*\|layername=clc24\)"
    ):
        open_layer(tmp_path / "clc.gpkg")
    assert open_layer(f"{tmp_path}/clc.gpkg|layername=clc18").layer == "clc18"
    assert open_layer(tmp_path / "clc.gpkg", layer="CLC18").layer == "clc18"


def test_of_several_layers_the_only_one_with_the_field_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "clc.gpkg"
    squares().to_file(path, layer="towns", engine="pyogrio")
    squares().assign(CODE_18="311").to_file(path, layer="clc", engine="pyogrio")
    assert open_layer(path, field="code_18").layer == "clc"
    assert "its layer 'clc' is read, the only one with the field code_18" in caplog.text
    assert open_layer(path, layer="towns", field="code_18").layer == "towns"  # a name wins
    with pytest.raises(
        InputError, match=r"2 polygon layers \((clc, towns|towns, clc)\), none with the field use. "
    ):
        open_layer(path, field="use")
    squares().assign(CODE_18="311").to_file(path, layer="old", engine="pyogrio")
    with pytest.raises(
        InputError,
        match=r"3 polygon layers .*, of which (clc, old|old, clc) have the field CODE_18; name one",
    ):
        open_layer(path, field="CODE_18")


@pytest.mark.parametrize("name", ["s p ácé", "a#b", "a%20b", "a?b", "a:b", "ñ&'q", "[x]*", "a,b"])
@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".parquet"])
def test_names_with_signs_are_read(tmp_path: Path, name: str, suffix: str) -> None:
    frame = gpd.GeoDataFrame({"code": ["1"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=25830)
    plain = tmp_path / f"plain{suffix}"
    frame.to_parquet(plain) if suffix == ".parquet" else frame.to_file(plain)
    for part in tmp_path.glob("plain.*"):
        part.rename(tmp_path / f"{name}{part.suffix}")
    path = tmp_path / f"{name}{suffix}"
    assert is_vector(path)
    assert read_layer(open_layer(path)).area.tolist() == [1]
    if suffix != ".shp":
        write_layer(path, frame, layer="again")
        assert read_layer(open_layer(path)).area.tolist() == [1]


@pytest.mark.parametrize("name", ["a!b.gpkg", "a;b.gpkg"])
def test_names_that_cannot_be_read_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    frame = gpd.GeoDataFrame({"code": ["1"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=25830)
    with pytest.raises(InputError, match="cannot hold '!' or ';'"):
        write_layer(tmp_path / name, frame, layer="a")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot hold '!' or ';'"):
        open_layer(tmp_path / name)


def test_passwords_in_addresses_are_refused_and_never_repeated() -> None:
    for text in ("postgresql://me:secret@host/base", "postgresql://host/base?user=me&password=secret"):
        with pytest.raises(InputError, match="PGPASSWORD") as caught:
            parse_address(text)
        assert "secret" not in str(caught.value)


# --- fields ---


def test_the_exact_name_of_a_field_wins_before_case_is_ignored(tmp_path: Path) -> None:
    frame = squares(CODE_18=["311", "311"], code_18=["112", "112"], Area=[1, 2])
    frame.to_parquet(tmp_path / "a.parquet")
    layer = open_layer(tmp_path / "a.parquet")
    assert [layer.require_field(name) for name in ("CODE_18", "code_18", "AREA")] == [
        "CODE_18",
        "code_18",
        "Area",
    ]
    with pytest.raises(InputError, match="the fields CODE_18, code_18 differ in case alone"):
        layer.require_field("Code_18")


AWKWARD = {
    "fid": ["a", "a"],
    "FID": [1.0, 1.0],
    "OGC_FID": [7, 7],
    "geom": ["x", "y"],
    "bbox": ["1,2", "3,4"],
    "Area": [1, 2],
    "AREA": [3, 4],
    "lists": [[1, 2], []],
    "tables": [{"a": 1}, None],
    "empty": [None, None],
    "large": np.array([2**63 + 1, 1], np.uint64),
}


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_any_field_can_be_written_back(tmp_path: Path, suffix: str) -> None:
    frame = squares(**AWKWARD)
    frame["long"] = gpd.pd.to_timedelta([1, 2], unit="h")
    frame["kind"] = gpd.pd.Categorical(["a", "b"])
    path = write_layer(tmp_path / f"out{suffix}", frame, layer="x")
    back = read_layer(open_layer(path))
    assert {"fid_old", "FID_old2", "OGC_FID_old", "geom_old", "bbox_old", "Area", "AREA_old"} <= set(
        back.columns
    )
    names = [name.casefold() for name in back.columns]
    assert len(set(names)) == len(names) == len(frame.columns)
    assert back["fid_old"].tolist() == ["a", "a"]
    assert back["AREA_old"].tolist() == [3, 4]
    assert back["lists"].tolist() == ["[1, 2]", "[]"]


def test_a_shapefile_may_call_its_fields_like_gdal_does(tmp_path: Path) -> None:
    squares(OGC_FID=[7, 7], wkb_geom=["a", "b"]).to_file(tmp_path / "a.shp", engine="pyogrio")
    frame = read_layer(open_layer(tmp_path / "a.shp"))
    assert frame["OGC_FID"].tolist() == [7, 7]
    assert frame.index.tolist() == [0, 1]
    squares(geometry_=["a", "b"]).rename(columns={"geometry_": "wkb_geometry"}).to_file(
        tmp_path / "b.geojson", engine="pyogrio"
    )
    assert read_layer(open_layer(tmp_path / "b.geojson"))["wkb_geometry"].tolist() == ["a", "b"]


def test_text_in_latin_1_is_read_from_any_format(tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "a.geojson", [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    path.write_bytes(
        path.read_text().replace('"code": "0"', '"code": "0", "name": "\u00c1vila"').encode("latin-1")
    )
    frame = read_layer(open_layer(path))
    assert frame["name"].tolist() == ["\u00c1vila"]


def test_an_empty_layer_is_told(tmp_path: Path) -> None:
    squares().iloc[:0].to_file(tmp_path / "e.gpkg", layer="clc", engine="pyogrio")
    with pytest.raises(InputError, match=r"e\.gpkg: its layer clc holds no features"):
        open_layer(tmp_path / "e.gpkg").require_features()


def test_a_geometry_column_that_the_metadata_name_in_vain_is_refused(tmp_path: Path) -> None:
    squares().to_parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    renamed = table.rename_columns(["code", "gekmetry"]).replace_schema_metadata(table.schema.metadata)
    pq.write_table(renamed, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet"):
        open_layer(tmp_path / "a.parquet")
