"""Updating: shares of a new map in old polygons, verdicts, and their order of urgency."""

import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tesela.core.crosswalk import Crosswalk, CrosswalkRow
from tesela.core.errors import GridError, InputError, LegendError, RecipeError
from tesela.core.legend import LandClass, Legend
from tesela.generalise import measured_layer
from tesela.generalise.error_likelihood import Batch, ErrorLikelihood, Explanation
from tesela.generalise.measured_layer import MeasuredLayer
from tesela.generalise.polygon_areas import PolygonAreas
from tesela.generalise.update import evaluate_polygons, update_polygons
from tesela.generalise.verdicts import UpdateRule
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, ScoreWriter, write_map
from tesela.io.vector import VectorLayer, open_layer
from tesela.simulate.region.landscape import make_landscape
from tesela.simulate.region.references import make_reference

LEGEND = Legend(
    "three",
    (
        LandClass(1, "wood", "Woodland", "#00aa00"),
        LandClass(2, "field", "Field", "#ffff00"),
        LandClass(5, "town", "Town", "#ff0000"),
    ),
)


def make_map(folder: Path, values: object, *, size: float = 100.0) -> ClassMap:
    array = np.array(values, np.uint8)
    grid = GeoBox(array.shape, Affine(size, 0, 0, 0, -size, array.shape[0] * size), "EPSG:3035")
    return write_map(folder / "new.tif", array, grid, legend=LEGEND)


def make_layer(folder: Path, shapes: list, codes: list, **fields: list) -> VectorLayer:
    frame = gpd.GeoDataFrame({"code": codes, **fields}, geometry=shapes, crs="EPSG:3035")
    frame.to_file(folder / "old.gpkg")
    return open_layer(folder / "old.gpkg")


def add_confidence(folder: Path, source: ClassMap, values: object) -> Path:
    with ScoreWriter(folder / "c.tif", source.grid, ["confidence"], scale=1.0, unit="%") as writer:
        writer.write(0, 0, np.array(values, np.uint8))
    return folder / "c.tif"


def row_of(frame: gpd.GeoDataFrame, **match: object) -> dict[str, object]:
    ((name, value),) = match.items()
    rows = frame[frame[name] == value].to_dict("records")
    assert len(rows) == 1
    return rows[0]


# --- areas ---


def measure_polygons(folder: Path, shapes: np.ndarray, source: ClassMap) -> PolygonAreas:
    """Areas of polygons in their order, those off the map too."""
    layer = make_layer(folder, list(shapes), ["wood"] * len(shapes))
    with MeasuredLayer(layer, source, field="code") as measured:
        measured.measure(everything=True)
        batches = list(measured)
    order = np.argsort(np.concatenate([batch.numbers for batch in batches]))
    assert len(order) == len(shapes)
    return PolygonAreas.join([batch.measured for batch in batches])[order]


def test_pixels_that_an_edge_cuts_count_in_part(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 2], [5, 0]])
    shapes = np.array([shapely.box(50, 50, 150, 150), shapely.box(0, 100, 50, 400)], object)
    measured = measure_polygons(tmp_path, shapes, source)
    assert measured.areas == pytest.approx(np.array([[0.25, 0.25, 0.25], [0.5, 0, 0]]))
    assert measured.total == pytest.approx([1.0, 1.5])
    assert measured.seen == pytest.approx([0.75, 1 / 3])
    assert measured.shares[0] == pytest.approx([1 / 3] * 3)
    assert np.isnan(measured.confidence).all()


def test_polygons_without_area_or_off_the_map_have_nothing(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 2]])
    shapes = np.array([None, shapely.Polygon(), shapely.box(900, 900, 950, 950)], object)
    measured = measure_polygons(tmp_path, shapes, source)
    assert (measured.areas == 0).all()
    assert measured.seen.tolist() == [0, 0, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), window=st.sampled_from([4, 7, 2048]), turn=st.sampled_from([0.0, 33.0]))
def test_polygon_areas_equal_the_overlay_of_shapely_for_any_window(
    tmp_path_factory: pytest.TempPathFactory, seed: int, window: int, turn: float
) -> None:
    random = np.random.default_rng(seed)
    values = random.choice(np.array([0, 1, 2, 5], np.uint8), (11, 13))
    affine = Affine.translation(-20, 70) * Affine.rotation(turn) * Affine.scale(10, -10)
    grid = GeoBox(values.shape, affine, "EPSG:3035")
    tmp_path = tmp_path_factory.mktemp("m")
    source = write_map(tmp_path / "m.tif", values, grid, legend=LEGEND)
    points = shapely.MultiPoint(random.uniform(-40, 110, (9, 2)))
    tiles = shapely.get_parts(shapely.voronoi_polygons(points, extend_to=shapely.box(-50, -50, 120, 120)))
    shapes = np.array([shapely.MultiPolygon([*tiles[:2]]), *tiles[2:]], object)
    shapes[3] = shapely.difference(shapes[3], shapely.Point(40, 30).buffer(12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured_layer, "WINDOW_PX", window)
        measured = measure_polygons(tmp_path, shapes, source)
    expected = np.zeros((len(shapes), 3))
    for i, j in np.argwhere(values > 0):
        corners = [affine * (j, i), affine * (j + 1, i), affine * (j + 1, i + 1), affine * (j, i + 1)]
        shared = shapely.area(shapely.intersection(shapes, shapely.Polygon(corners))) / 100
        expected[:, LEGEND.index_table[values[i, j]]] += shared
    assert measured.areas == pytest.approx(expected, abs=1e-8)
    assert measured.total == pytest.approx(shapely.area(shapes) / 100)


def test_windows_with_many_polygons_are_halved_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    source = make_map(tmp_path, random.choice([1, 2, 5], (16, 16)).repeat(64, 0).repeat(64, 1))
    points = shapely.MultiPoint(random.uniform(0, 102_400, (90, 2)))
    shapes = shapely.get_parts(
        shapely.voronoi_polygons(points, extend_to=shapely.box(0, 0, 102_400, 102_400))
    )
    layer = make_layer(tmp_path, list(shapes), random.choice(["wood", "field"], len(shapes)).tolist())
    whole = evaluate_polygons(layer, source, field="code").sort_values("feature", ignore_index=True)
    read = []
    measure_window = measured_layer.measure_window
    monkeypatch.setattr(
        measured_layer,
        "measure_window",
        lambda *args, **options: read.append(1) or measure_window(*args, **options),
    )
    monkeypatch.setattr(measured_layer, "_POLYGONS", 3)
    halved = evaluate_polygons(layer, source, field="code").sort_values("feature", ignore_index=True)
    assert len(read) == 4, "windows of 512 px, of 1024 px before"
    for name in ("rank", "urgency", "own_share", "seen", "verdict"):
        assert halved[name].tolist() == (
            whole[name].tolist() if whole[name].dtype == object else pytest.approx(whole[name].tolist())
        )


# --- verdicts ---


def make_row(folder: Path, cells: list[list[int]], codes: list[str]) -> tuple[VectorLayer, ClassMap]:
    """A row of old polygons of four pixels each, after eight of wood and eight of field that hold."""
    values = [1] * 32 + [2] * 32 + [value for cell in cells for value in cell]
    codes = ["wood"] * 8 + ["field"] * 8 + codes
    squares = [shapely.box(400 * number, 0, 400 * number + 400, 100) for number in range(len(codes))]
    return make_layer(folder, squares, codes, ID=list(range(len(codes)))), make_map(folder, [values])


def test_verdicts_follow_the_shares(tmp_path: Path) -> None:
    cells = [[2, 2, 2, 2], [2, 2, 5, 1], [1, 1, 1, 2], [5, 5, 5, 0], [0, 0, 0, 1]]
    layer, source = make_row(tmp_path, cells, ["wood", "field", "wood", "wood", "wood"])
    frame = evaluate_polygons(layer, source, field="CODE")
    assert (frame["verdict"][frame["ID"] < 16] == "holds").all()
    changed, doubtful, part, town, unseen = (row_of(frame, ID=number) for number in range(16, 21))
    assert (changed["verdict"], changed["own_share"], changed["majority"]) == ("changed", 0, "field")
    assert (changed["purity"], changed["likely"], changed["other_ha"]) == (1, "field", 4)
    assert (doubtful["verdict"], doubtful["own_share"], doubtful["majority"]) == ("doubtful", 0.5, "field")
    assert [doubtful[f"share_{code}"] for code in LEGEND.codes] == [0.25, 0.5, 0.25]
    assert (part["verdict"], part["own_share"], part["old_class"]) == ("doubtful", 0.75, "wood")
    assert (town["majority"], town["purity"], town["seen"], town["other_ha"]) == ("town", 1, 0.75, 3)
    assert (unseen["verdict"], unseen["seen"], unseen["urgency"]) == ("unseen", 0.25, 0)
    assert np.isnan(unseen["usual_share"])
    assert frame["ID"].tolist()[-1] == 20
    assert set(frame["ID"].tolist()[:3]) == {16, 17, 19}
    assert frame["rank"].tolist() == list(range(1, 22))
    assert frame["urgency"].is_monotonic_decreasing
    assert changed["area_ha"] == pytest.approx(4)
    assert changed["usual_share"] == pytest.approx(1)


def test_a_change_of_low_confidence_is_doubtful(tmp_path: Path) -> None:
    layer, source = make_row(tmp_path, [[2, 2, 2, 2]], ["wood"])
    for score, verdict in ((39, "doubtful"), (40, "changed")):
        confidence = add_confidence(tmp_path, source, [[80] * 32 + [255] * 32 + [score] * 4])
        frame = evaluate_polygons(layer, source, field="code", confidence=confidence)
        row = row_of(frame, ID=16)
        assert (row["verdict"], row["confidence"]) == (verdict, score)
        assert row_of(frame, ID=0)["confidence"] == 80
        assert np.isnan(row_of(frame, ID=8)["confidence"])


def test_thresholds_move_verdicts(tmp_path: Path) -> None:
    layer, source = make_row(tmp_path, [[1, 1, 1, 2], [2, 2, 2, 1]], ["wood", "wood"])

    def verdicts(**thresholds: float) -> list[object]:
        frame = evaluate_polygons(layer, source, field="code", rule=UpdateRule(**thresholds))
        return [row_of(frame, ID=number)["verdict"] for number in (16, 17)]

    assert verdicts() == ["doubtful", "changed"]
    assert verdicts(slack=0.25) == ["holds", "changed"]
    assert verdicts(slack=0.25, least=0.8) == ["doubtful", "changed"]
    assert verdicts(slack=0.25, part_ha=1.0) == ["doubtful", "changed"]
    assert verdicts(slack=0.25, part_ha=1.01) == ["holds", "changed"]
    assert verdicts(lost=0.76) == ["doubtful", "doubtful"]
    assert verdicts(changed=0.76) == ["doubtful", "doubtful"]
    with pytest.raises(InputError, match=r"Thresholds out of range: slack = 1\.5, confidence = 120"):
        UpdateRule(slack=1.5, confidence=120)


def test_a_code_that_a_crosswalk_splits_means_any_of_its_targets(tmp_path: Path) -> None:
    crosswalk = Crosswalk(
        "old",
        LEGEND,
        (
            CrosswalkRow("mosaic", "wood", 0.4),
            CrosswalkRow("mosaic", "field", 0.6),
            CrosswalkRow("41", "town"),
            CrosswalkRow("sea", "nodata"),
        ),
    )
    source = make_map(tmp_path, [[1, 2, 5, 5, 1, 1]])
    squares = [shapely.box(x, 0, x + 200, 100) for x in (0, 200, 400)]
    layer = make_layer(tmp_path, squares, ["mosaic", "41", "sea"])
    frame = evaluate_polygons(layer, source, field="code", crosswalk=crosswalk)
    mosaic = row_of(frame, code="mosaic")
    assert (mosaic["verdict"], mosaic["own_share"], mosaic["old_class"]) == ("holds", 1, "field")
    assert row_of(frame, code="sea")["verdict"] == "unseen"
    assert row_of(frame, code="sea")["old_class"] == ""


def test_codes_may_be_those_of_a_finer_level_and_numbers(tmp_path: Path) -> None:
    from tesela.io.legends import open_legend

    legend = open_legend("corine-1")
    grid = GeoBox((1, 2), Affine(100, 0, 0, 0, -100, 100), "EPSG:3035")
    source = write_map(tmp_path / "m.tif", np.array([[3, 2]], np.uint8), grid, legend=legend)
    layer = make_layer(tmp_path, [shapely.box(0, 0, 100, 100), shapely.box(100, 0, 200, 100)], [311.0, 324.0])
    frame = evaluate_polygons(layer, source, field="code")
    assert frame[["code", "old_class", "verdict"]].to_dict("records") == [
        {"code": 324.0, "old_class": "3", "verdict": "doubtful"},
        {"code": 311.0, "old_class": "3", "verdict": "holds"},
    ]


# --- likelihood of error ---


def explain(*batches: Batch) -> tuple[np.ndarray, Explanation]:
    """Urgency of all polygons, and their explanations, of which there is one for each class."""
    likelihood = ErrorLikelihood(batches, np.eye(batches[0][0].shape[1]))
    parts = [likelihood.explain(*batch) for batch in batches]
    joined = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("evidence", "usual", "likely")
    )
    return likelihood.urgency, Explanation(*joined)


def test_a_polygon_is_compared_with_those_of_its_class() -> None:
    mixed = np.array([[50.0, 50.0]] * 9 + [[5.0, 95.0]] + [[0.0, 100.0]] * 10)
    kinds = np.repeat([0, 1], 10)
    urgency, found = explain((mixed, kinds, np.ones(20, bool)))
    assert urgency.argmax() == 9
    assert found.evidence[9] > 0
    assert (found.evidence[:9] < 0).all()
    assert found.likely.tolist() == [0] * 9 + [1] * 11


def test_a_polygon_does_not_make_its_own_mix_usual() -> None:
    areas = np.array([[10.0, 0], [0, 1000.0], [0, 10.0], [0, 10.0]])  # the second is nearly all of its class
    urgency, found = explain((areas, np.array([0, 0, 1, 1]), np.ones(4, bool)))
    assert urgency.argmax() == 1
    assert found.evidence[1] > 1


def test_the_usual_share_of_a_small_class_is_shrunk_to_that_of_all() -> None:
    areas = np.array([[10.0, 0], [0, 10.0], [0, 10.0], [0, 10.0]])
    _, found = explain((areas, np.array([0, 0, 1, 1]), np.ones(4, bool)))
    # medians 0.5 of two polygons and 1 of two, and 1 of all with the weight of five
    assert found.usual == pytest.approx([6 / 7, 6 / 7, 1, 1])


def test_with_one_class_there_is_no_evidence_for_another() -> None:
    areas = np.array([[9.0, 1.0], [2.0, 8.0]])
    urgency, found = explain((areas, np.array([0, 0]), np.ones(2, bool)))
    assert found.evidence.tolist() == [0, 0]
    assert urgency.tolist() == [25, 75]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 40), order=st.randoms())
def test_urgency_depends_neither_on_the_order_nor_on_the_unit_of_area(
    seed: int, count: int, order: object
) -> None:
    random = np.random.default_rng(seed)
    areas = random.gamma(0.5, 10, (count, 3)) + 1e-6
    kinds = random.integers(0, 3, count)
    urgency, found = explain((areas, kinds, np.ones(count, bool)))
    assert ((urgency >= 0) & (urgency <= 100)).all()
    shuffled = random.permutation(count)
    parts = [
        (areas[some] * 1e3, kinds[some], np.ones(len(some), bool)) for some in np.array_split(shuffled, 3)
    ]
    _, again = explain(*parts)
    assert again.evidence == pytest.approx(found.evidence[shuffled], rel=1e-6, abs=1e-9)
    assert again.likely.tolist() == found.likely[shuffled].tolist()


# --- files ---


def test_a_geopackage_lists_the_most_urgent_first_in_the_colours_of_the_verdicts(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 1, 2, 2]])
    layer = make_layer(
        tmp_path,
        [shapely.box(0, 0, 200, 100), shapely.box(200, 0, 400, 100)],
        ["wood", "wood"],
        ID=[1, 2],
        verdict=["old", "old"],
    )
    written = update_polygons(layer, source, tmp_path / "out.gpkg", field="code", everything=True)
    frame = written.to_geodataframe()
    assert frame["ID"].tolist() == [2, 1]
    assert frame["verdict"].tolist() == ["doubtful", "holds"]
    assert frame.geometry.iloc[1].equals(shapely.box(0, 0, 200, 100))
    with closing(sqlite3.connect(tmp_path / "out.gpkg")) as file:
        ((style,),) = file.execute(
            "SELECT styleQML FROM layer_styles WHERE f_table_name = 'update'"
        ).fetchall()
    assert 'attr="verdict"' in style
    assert all(f'value="{name}"' in style for name in ("changed", "doubtful", "holds", "unseen"))


def test_a_wrong_field_an_unknown_code_and_another_place_are_clear_errors(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 2]])
    layer = make_layer(tmp_path, [shapely.box(0, 0, 100, 100)], ["lava"])
    with pytest.raises(InputError, match="Unknown field 'cod': did you mean 'code'"):
        update_polygons(layer, source, tmp_path / "out.gpkg", field="cod")
    with pytest.raises(LegendError, match="holds the codes lava, which crosswalk"):
        update_polygons(layer, source, tmp_path / "out.gpkg", field="code")
    with pytest.raises(RecipeError, match="is read, and would be replaced"):
        update_polygons(layer, source, layer.path, field="code")
    far = make_layer(tmp_path, [shapely.box(9000, 0, 9100, 100)], ["wood"])
    with pytest.raises(GridError, match="no polygon has a mapped pixel"):
        update_polygons(far, source, tmp_path / "out.gpkg", field="code")
    assert not (tmp_path / "out.gpkg").exists()


def test_most_errors_of_a_virtual_reference_are_among_the_first_polygons(tmp_path: Path) -> None:
    landscape = make_landscape(size_px=480, seed=8)
    reference = make_reference(landscape, min_area_ha=3.0, label_errors=0.08, shifted=0.0)
    from tesela.io.legends import open_legend

    legend = open_legend("corine-3")
    reference.polygons.to_file(tmp_path / "old.gpkg")
    random = np.random.default_rng(1)
    values = landscape.truth.copy()
    wrong = random.random(values.shape) < 0.2
    values[wrong] = random.choice(landscape.truth.ravel(), wrong.sum())
    source = write_map(tmp_path / "new.tif", values, landscape.grid, legend=legend)
    frame = evaluate_polygons(open_layer(tmp_path / "old.gpkg"), source, field="CODE_18")
    changed = frame["ID"].isin([item.polygon for item in reference.wrong if item.code != item.true_code])
    assert changed.sum() >= 5
    assert changed[: len(frame) // 5].sum() >= 0.8 * changed.sum()
    assert (frame["verdict"][changed] == "holds").sum() <= 0.2 * changed.sum()


def test_old_fields_with_a_name_of_ours_get_a_suffix(tmp_path: Path) -> None:
    grid = GeoBox((10, 10), Affine(10, 0, 500000, 0, -10, 4100000), "EPSG:25830")
    legend = open_legend("corine-1")
    source = write_map(tmp_path / "m.tif", np.full((10, 10), 2, np.uint8), grid, legend=legend)
    old = gpd.GeoDataFrame(
        {"CODE": ["2"], "AREA_HA": [7.5]},
        geometry=[shapely.box(500000, 4099900, 500100, 4100000)],
        crs="EPSG:25830",
    )
    old.to_file(tmp_path / "old.gpkg")
    made = update_polygons(
        open_layer(tmp_path / "old.gpkg"), source, tmp_path / "u.gpkg", field="CODE", everything=True
    )
    frame = made.to_geodataframe()
    assert frame["AREA_HA_old"].tolist() == [7.5]
    assert frame["area_ha"].tolist() == [1.0]
