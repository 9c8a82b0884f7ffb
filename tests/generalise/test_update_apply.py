"""Applying an update: changed parts, the new layer without gaps or overlaps, and the change layer."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, RecipeError
from tesela.core.legend import LandClass, Legend
from tesela.generalise.update import update_polygons
from tesela.generalise.update_apply import apply_update
from tesela.generalise.verdicts import UpdateRule
from tesela.io.maps import ClassMap, write_map
from tesela.io.update_queue import read_queue, write_decisions
from tesela.io.vector import VectorLayer, open_layer, read_layer

LEGEND = Legend(
    "three",
    (
        LandClass(1, "1", "Woodland", "#00aa00"),
        LandClass(2, "2", "Field", "#ffff00"),
        LandClass(5, "5", "Town", "#ff0000"),
    ),
)
CRS = "EPSG:25830"
X, Y = 400_000.0, 4_100_000.0


def make_map(
    folder: Path, values: np.ndarray, *, size: float = 10.0, turn: float = 0.0, crs: str = CRS
) -> ClassMap:
    affine = Affine.translation(X, Y) * Affine.rotation(turn) * Affine.scale(size, -size)
    return write_map(
        folder / "new.tif", values.astype(np.uint8), GeoBox(values.shape, affine, crs), legend=LEGEND
    )


def make_layer(folder: Path, shapes: object, codes: list[object], name: str = "old.gpkg") -> VectorLayer:
    frame = gpd.GeoDataFrame(
        {"CODE": codes, "NAME": [f"n{k}" for k in range(len(codes))]}, geometry=list(shapes), crs=CRS
    )
    if name.endswith(".parquet"):
        frame.to_parquet(folder / name, write_covering_bbox=True)
    else:
        frame.to_file(folder / name)
    return open_layer(folder / name)


def strip(first: int, last: int, *, rows: int = 10) -> shapely.Polygon:
    """Columns of 10 m, `rows` of them tall, from the upper left corner of the map."""
    return shapely.box(X + 10 * first, Y - 10 * rows, X + 10 * last, Y)


def mosaic(seed: int, *, side: float, count: int) -> np.ndarray:
    """A random coverage of a square, with corners on shared borders."""
    random = np.random.default_rng(seed)
    frame = shapely.box(X, Y - side, X + side, Y)
    points = shapely.MultiPoint(random.uniform((X, Y - side), (X + side, Y), (count, 2)))
    tiles = shapely.intersection(shapely.get_parts(shapely.voronoi_polygons(points, extend_to=frame)), frame)
    assert shapely.coverage_is_valid(tiles)
    return np.asarray(tiles)


def hectares(frame: gpd.GeoDataFrame, field: str) -> dict[str, float]:
    sums = (frame.geometry.area / 10_000).groupby(frame[field].astype(str)).sum()
    return {str(code): float(area) for code, area in sums.items()}


# --- changed parts ---


def test_a_part_of_the_unit_is_split_off_and_a_smaller_one_is_not(tmp_path: Path) -> None:
    values = np.ones((10, 60), int)
    values[:, 10:40] = 2
    values[2:8, 22:32] = 5  # 0.6 ha of town in the field
    values[2:4, 42:44] = 5  # 0.04 ha in the wood
    values[:, 50:] = 5  # a wood that is a town now
    codes = ["1", "2", "1", "1"]
    layer = make_layer(tmp_path, [strip(0, 10), strip(10, 40), strip(40, 50), strip(50, 60)], codes)
    rule = UpdateRule(part_ha=0.5)
    source = make_map(tmp_path, values)
    made = update_polygons(layer, source, tmp_path / "q.gpkg", field="CODE", rule=rule, mmu_m2=5_000)
    queue = read_queue(tmp_path / "q.gpkg")
    found = {(row["feature"], row["new_code"]): row for _, row in queue.proposals.iterrows()}
    assert set(found) >= {(2, "5"), (4, "5")}
    assert {code for _, code in found} <= {"5", ""}
    assert (3, "5") not in found
    town, whole = found[2, "5"], found[4, "5"]
    assert town.geometry.equals(shapely.box(X + 220, Y - 80, X + 320, Y - 20))
    assert (town["area_ha"], town["share"], town["old_code"]) == (pytest.approx(0.6), pytest.approx(0.2), "2")
    assert whole.geometry.equals(strip(50, 60))
    assert made.proposals == len(found)
    row = made.to_geodataframe().set_index("feature").loc[2]
    assert (row["changed_ha"], row["NAME"]) == (pytest.approx(0.6), "n1")


def test_what_would_remain_under_the_unit_goes_with_the_change(tmp_path: Path) -> None:
    values = np.ones((10, 20), int)
    values[:, 2:] = 5  # two columns, 0.2 ha, of the old wood remain
    layer = make_layer(tmp_path, [strip(0, 20)], ["1"])
    update_polygons(layer, make_map(tmp_path, values), tmp_path / "q.gpkg", field="CODE", mmu_m2=5_000)
    ((_, row),) = read_queue(tmp_path / "q.gpkg").proposals.iterrows()
    assert row.geometry.equals(strip(0, 20))
    assert row["share"] == pytest.approx(1)


@pytest.mark.parametrize("turn", [0.0, 27.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_new_layer_is_a_coverage_and_the_old_one_plus_the_changes(
    tmp_path: Path, seed: int, turn: float
) -> None:
    random = np.random.default_rng(seed)
    tiles = mosaic(seed, side=1000, count=40)
    codes = random.choice(["1", "2", "5"], len(tiles)).tolist()
    patches = random.choice(np.array([1, 2, 5]), (14, 14)).repeat(10, 0).repeat(10, 1)[:140, :140]
    layer = make_layer(tmp_path, tiles, codes)
    source = make_map(tmp_path, patches, turn=turn)
    unit = 4_000.0
    update_polygons(layer, source, tmp_path / "q.gpkg", field="CODE", mmu_m2=unit)
    made = apply_update(tmp_path / "q.gpkg", tmp_path / "new.gpkg", undecided="accept")
    old, new = read_layer(layer), read_layer(open_layer(made.path, layer="updated"))
    changes = read_layer(open_layer(made.path, layer="changes"))
    assert len(changes) > 5
    shapes = new.geometry.to_numpy()
    assert shapely.coverage_is_valid(shapes), "neighbours share their corners, nothing overlaps"
    assert shapely.area(shapely.coverage_union_all(shapes)) == pytest.approx(1e6, rel=1e-9)
    assert not shapely.coverage_union_all(shapes).interiors, "no gaps"
    # areas: new = old - what left + what came
    before, after = hectares(old, "CODE"), hectares(new, "CODE")
    left, came = hectares(changes, "old_code"), hectares(changes, "new_code")
    for code in ("1", "2", "5"):
        expected = before.get(code, 0) - left.get(code, 0) + came.get(code, 0)
        assert after.get(code, 0) == pytest.approx(expected, abs=1e-6)
    assert changes["area_ha"].to_numpy() == pytest.approx(changes.geometry.area / 10_000, rel=1e-6)
    # every change is a row of the new layer, of the unit or a whole polygon, with the attributes of its old polygon
    whole = old.geometry.area.loc[changes["feature"]].to_numpy()
    area = changes.geometry.area.to_numpy()
    assert ((area >= unit * (1 - 1e-6)) | (area >= whole * (1 - 1e-5))).all()
    changed = new[new["changed_from"].notna()]
    assert len(changed) == len(changes)
    names = old.loc[changes["feature"], "NAME"].tolist()
    assert sorted(changed["NAME"]) == sorted(names)
    assert made.polygons == len(new)
    # ground that did not change keeps code and name
    kept = new[new["changed_from"].isna()]
    by_name = dict(zip(old["NAME"], old["CODE"], strict=True))
    assert (kept["NAME"].map(by_name) == kept["CODE"]).all()


# --- decisions ---


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """Four woods of a hectare; two are a town now, one is half a field."""
    values = np.ones((10, 40), int)
    values[:, 10:30] = 5
    values[:, 35:] = 2
    layer = make_layer(tmp_path, [strip(10 * k, 10 * k + 10) for k in range(4)], ["1"] * 4)
    rule = UpdateRule(part_ha=0.4)
    source = make_map(tmp_path, values)
    made = update_polygons(layer, source, tmp_path / "q.gpkg", field="CODE", rule=rule, mmu_m2=4_000)
    assert made.verdicts["holds"][0] == 1
    return tmp_path / "q.gpkg"


def decide(path: Path, **codes: str) -> None:
    """Decisions by number of the old feature: f2="5"."""
    proposals = read_queue(path).proposals
    ids = {int(row["feature"]): str(number) for number, row in proposals.iterrows()}
    write_decisions(path, {ids[int(name[1:])]: (code, "seen") for name, code in codes.items()})


def codes_of(path: str) -> list[tuple[str, str | None, float]]:
    frame = read_layer(open_layer(path, layer="updated"))
    frame["changed_from"] = frame["changed_from"].astype(object).where(frame["changed_from"].notna(), None)
    return [
        (row["CODE"], row["changed_from"], round(row.geometry.area / 10_000, 6))
        for _, row in frame.iterrows()
    ]


def test_accepted_rejected_other_and_open_proposals(tmp_path: Path, queue: Path) -> None:
    proposals = read_queue(queue).proposals
    assert sorted(proposals[proposals["new_code"] != ""]["feature"]) == [2, 3, 4]
    decide(queue, f2="5", f3="1", f4="5")
    made = apply_update(queue, tmp_path / "new.gpkg")
    assert codes_of(made.path) == [
        ("1", None, 1),
        ("5", "1", 1),
        ("1", None, 1),
        ("1", None, 0.5),
        ("5", "1", 0.5),
    ]
    assert made.changes == {"1-5": (2, pytest.approx(1.5))}
    changes = read_layer(open_layer(made.path, layer="changes"))
    assert changes["outcome"].tolist() == ["accepted", "other class"]
    assert changes["note"].tolist() == ["seen", "seen"]
    assert made.decided == 3


def test_without_decisions_the_old_classes_stay_unless_accepted(tmp_path: Path, queue: Path) -> None:
    kept = apply_update(queue, tmp_path / "kept.gpkg")
    assert codes_of(kept.path) == [("1", None, 1)] * 4
    assert (kept.changes, kept.decided) == ({}, 0)
    decide(queue, f2="1")
    made = apply_update(queue, tmp_path / "new.gpkg", undecided="accept")
    assert made.changes == {"1-5": (1, pytest.approx(1)), "1-2": (1, pytest.approx(0.5))}


def test_a_layer_of_another_year_and_wrong_calls_are_clear_errors(tmp_path: Path, queue: Path) -> None:
    decide(queue, f2="5")
    make_layer(tmp_path, [strip(10 * k, 10 * k + 10) for k in range(4)], ["1", "2", "1", "1"], "recoded.gpkg")
    make_layer(tmp_path, [strip(10 * k, 10 * k + 10) for k in (0, 2)], ["1", "1"], "moved.gpkg")
    make_layer(tmp_path, [strip(0, 10)], ["1"], "short.gpkg")
    for name, message in (
        ("recoded.gpkg", "feature 2 has the code 2, but 1 when q.gpkg was made"),
        ("moved.gpkg", "feature 2 has another outline"),
        ("short.gpkg", "lacks 1 of the 1 polygons that q.gpkg changes"),
    ):
        with pytest.raises(InputError, match=message):
            apply_update(queue, tmp_path / "new.gpkg", polygons=tmp_path / name)
    with pytest.raises(RecipeError, match="name a file for the change layer"):
        apply_update(queue, tmp_path / "new.parquet")
    with pytest.raises(InputError, match="has no layer 'proposals'"):
        apply_update(tmp_path / "old.gpkg", tmp_path / "new.gpkg")
    decide(queue, f2="lava")
    with pytest.raises(InputError, match="Unknown code in the field decision 'lava'"):
        apply_update(queue, tmp_path / "new.gpkg")
    assert not (tmp_path / "new.gpkg").exists()


def test_numbers_stay_numbers_and_other_formats_have_the_same_rows(tmp_path: Path) -> None:
    values = np.ones((10, 20), int)
    values[:, 10:] = 5
    layer = make_layer(tmp_path, [strip(0, 10), strip(10, 20)], [1, 1], "old.parquet")
    update_polygons(layer, make_map(tmp_path, values), tmp_path / "q.gpkg", field="CODE")
    made = apply_update(
        tmp_path / "q.gpkg", tmp_path / "n.parquet", undecided="accept", changes_out=tmp_path / "c.gpkg"
    )
    frame = gpd.read_parquet(made.path)
    assert frame["CODE"].tolist() == [1, 5]
    assert frame["CODE"].dtype.kind in "iu"
    changes = gpd.read_file(made.changes_path, layer="changes")
    assert changes["change"].tolist() == ["1-5"]
