"""Sampling: designs, exact draws, files for interpreters and their responses, the command line."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from repository import ROOT
from tesela.accounting.changes import map_changes
from tesela.cli import main
from tesela.core.crosswalk import Crosswalk, CrosswalkRow
from tesela.core.errors import GridError, InputError, LegendError
from tesela.io.layers import write_layers
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map
from tesela.io.raster import raster_crs
from tesela.io.tables import read_table
from tesela.sampling.change_codes import change_code, change_legend
from tesela.sampling.design import SamplingDesign, Stratum, allocate, plan_sample, sample_size
from tesela.sampling.draw import draw_points, draw_sample
from tesela.sampling.estimates import estimate_accuracy, estimates_of
from tesela.sampling.responses import class_values_at, read_sample

EXAMPLES = json.loads((ROOT / "benchmarks" / "published_accuracy.json").read_text(encoding="utf-8"))
LULUCF = open_legend("lulucf")
UTM = "EPSG:25830"
ORIGIN = (500_000.0, 4_100_000.0)


def grid(rows: int, cols: int, *, size_m: float = 10.0) -> GeoBox:
    return GeoBox((rows, cols), Affine(size_m, 0, ORIGIN[0], 0, -size_m, ORIGIN[1]), UTM)


def random_map(
    path: Path, rows: int = 120, cols: int = 90, *, seed: int = 0, nodata: float = 0.05
) -> ClassMap:
    rng = np.random.default_rng(seed)
    chances = [nodata, *(np.array([0.45, 0.3, 0.15, 0.06, 0.03, 0.01]) * (1 - nodata))]
    values = rng.choice(7, p=chances, size=(rows, cols)).astype(np.uint8)
    return write_map(path, values, grid(rows, cols), legend=LULUCF)


def pixels_of(source: ClassMap) -> NDArray[np.uint8]:
    from tesela.io.maps import MapReader

    with MapReader(source) as reader:
        return reader.read(source.grid)


# --- designs


def test_the_published_sample_size_and_allocation_are_reproduced() -> None:
    item = EXAMPLES["olofsson2014_table8"]["sample_size"]
    size = sample_size(np.array(item["W"]), np.array(item["U"]), target_se=item["target_se_OA"])
    assert size == pytest.approx(item["n"], abs=5e-4)
    assert int(np.ceil(size)) == item["n_rounded"]
    allocated = allocate(641, np.array([200_000, 150_000, 3_200_000, 6_450_000]), minimum=75)
    # the paper rounds the two large strata to 165 and 325
    assert allocated.tolist() == [75, 75, 163, 328]


@given(
    st.lists(st.integers(1, 10_000_000), min_size=1, max_size=30),
    st.integers(0, 60),
    st.integers(0, 5_000),
    st.sampled_from(["proportional", "equal", "neyman", "simple"]),
)
@settings(max_examples=200, deadline=None)
def test_allocation_uses_every_point_within_the_limits(
    sizes: list[int], minimum: int, extra: int, rule: str
) -> None:
    pixels = np.array(sizes)
    least = np.minimum(pixels, max(minimum, 2))
    points = int(least.sum()) + extra
    expected = np.linspace(0.5, 1.0, len(sizes))
    allocated = allocate(points, pixels, rule=rule, minimum=minimum, expected=expected)  # type: ignore[arg-type]
    assert allocated.sum() == min(points, pixels.sum())
    assert (allocated >= least).all()
    assert (allocated <= pixels).all()


def test_each_rule_allocates_points_as_documented() -> None:
    sizes = np.array([1_000, 3_000, 6_000])
    assert allocate(100, sizes, minimum=2).tolist() == [10, 30, 60]
    assert allocate(99, sizes, rule="equal", minimum=2).tolist() == [33, 33, 33]
    expected = np.array([0.5, 0.9, 0.9])  # S: 0.5, 0.3, 0.3 -> 500 : 900 : 1800
    assert allocate(320, sizes, rule="neyman", minimum=2, expected=expected).tolist() == [50, 90, 180]
    with pytest.raises(InputError, match="150 or more"):
        allocate(100, sizes, minimum=50)
    with pytest.raises(InputError, match="did you mean 'neyman'"):
        allocate(100, sizes, rule="neymann", minimum=2)  # type: ignore[arg-type]


def test_a_plan_counts_the_map_and_reaches_the_target_error(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif", 400, 300)
    design = plan_sample(source, target_se=0.02, minimum=10, window_px=77)
    counts = np.bincount(pixels_of(source).ravel(), minlength=7)
    assert [item.size_px for item in design.strata] == counts[1:].tolist()
    shares = counts[1:] / counts[1:].sum()
    variance = sum(w**2 * 0.85 * 0.15 / item.points for w, item in zip(shares, design.strata, strict=True))
    assert np.sqrt(variance) <= 0.0205
    assert design.pixel_area_m2 == 100
    assert plan_sample(source, points=60, rule="simple").strata[0].size_px == counts[1:].sum()
    with pytest.raises(InputError, match="give one of the two"):
        plan_sample(source)


def test_a_map_in_degrees_is_not_sampled(tmp_path: Path) -> None:
    box = GeoBox((10, 10), Affine(0.001, 0, -3.0, 0, -0.001, 37.0), "EPSG:4326")
    source = write_map(tmp_path / "map.tif", np.ones((10, 10), np.uint8), box, legend=LULUCF)
    with pytest.raises(GridError, match="not all have the same area"):
        plan_sample(source, points=10)


# --- draws


def test_a_draw_does_not_depend_on_windows_and_contains_each_pixel_once(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif")
    design = plan_sample(source, points=400, minimum=20, seed=5)
    first = draw_points(source, design=design)
    for window_px in (1000, 64, 7):
        again = draw_points(source, design=design, window_px=window_px)
        assert np.array_equal(first.row, again.row)
        assert np.array_equal(first.col, again.col)
    values = pixels_of(source)[first.row, first.col]
    codes = [LULUCF.classes[int(v) - 1].code for v in values]
    assert codes == [design.strata[h].code for h in first.stratum]
    assert np.bincount(first.stratum).tolist() == [item.points for item in design.strata]
    assert len(set(zip(first.row.tolist(), first.col.tolist(), strict=True))) == 400


def test_a_larger_sample_with_the_same_seed_contains_the_smaller_one(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif")
    pairs = []
    for points in (60, 300):
        drawn = draw_points(source, design=plan_sample(source, points=points, minimum=5, seed=9))
        pairs.append(set(zip(drawn.row.tolist(), drawn.col.tolist(), strict=True)))
    assert pairs[0] < pairs[1]
    other = draw_points(source, design=plan_sample(source, points=60, minimum=5, seed=10))
    assert set(zip(other.row.tolist(), other.col.tolist(), strict=True)) != pairs[0]


def test_interpreters_who_stop_early_leave_the_same_part_of_every_stratum(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif")
    design = plan_sample(source, points=1200, minimum=2, rule="equal")
    drawn = draw_points(source, design=design)
    wanted = np.array([item.points for item in design.strata])
    half = np.bincount(drawn.stratum[:600], minlength=len(wanted))
    assert (np.abs(half - wanted / 2) < 4 * np.sqrt(wanted / 4)).all()


def test_every_pixel_has_the_same_chance_and_pairs_are_independent(tmp_path: Path) -> None:
    values = np.ones((12, 12), np.uint8)
    source = write_map(tmp_path / "map.tif", values, grid(12, 12), legend=LULUCF)
    draws, points = 400, 36
    hits = np.zeros((draws, 144))
    for seed in range(draws):
        design = SamplingDesign((Stratum("forest_land", "", 144, points),), "proportional", seed, 100.0)
        drawn = draw_points(source, design=design)
        hits[seed, drawn.row * 12 + drawn.col] = 1
    chance = points / 144
    # chi-square of 143 degrees of freedom, made smaller by sampling without replacement
    chi = ((hits.sum(axis=0) - draws * chance) ** 2 / (draws * chance * (1 - chance))).sum()
    assert 143 - 5 * np.sqrt(2 * 143) < chi < 143 + 5 * np.sqrt(2 * 143)
    together = (hits[:, :-1] * hits[:, 1:]).mean()
    assert together == pytest.approx(chance * (points - 1) / 143, abs=0.005)


def test_a_stratum_smaller_than_its_share_is_taken_whole(tmp_path: Path) -> None:
    values = np.ones((30, 30), np.uint8)
    values[0, :3] = 5
    source = write_map(tmp_path / "map.tif", values, grid(30, 30), legend=LULUCF)
    drawn = draw_points(source, design=plan_sample(source, points=80, minimum=30))
    small = drawn.stratum == 1
    assert sorted(zip(drawn.row[small].tolist(), drawn.col[small].tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (0, 2),
    ]


def test_a_design_of_another_map_is_refused(tmp_path: Path) -> None:
    design = plan_sample(random_map(tmp_path / "a.tif"), points=100, minimum=5)
    with pytest.raises(InputError, match="Plan the sample again"):
        draw_sample(random_map(tmp_path / "b.tif", seed=1), tmp_path / "s.gpkg", design=design)


# --- files


def fill_in(path: Path, truth: ClassMap, *, empty: int = 0) -> pd.DataFrame:
    """Responses of interpreters: the true code of each point; the first `empty` points have none."""
    points = read_table(path, layer="points")
    crs = raster_crs(truth.grid).to_wkt()
    values = class_values_at(truth, points["x"].to_numpy(), points["y"].to_numpy(), crs=crs)
    points["reference"] = [LULUCF.classes[int(v) - 1].code for v in values]
    points.loc[points.index[:empty], "reference"] = None
    return points


def test_a_sample_is_written_for_interpreters_and_read_back(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif", nodata=0.0)
    truth = random_map(tmp_path / "truth.tif", nodata=0.0, seed=1)
    design = plan_sample(source, points=300, minimum=20)
    path = draw_sample(source, tmp_path / "sample.gpkg", design=design)
    points = read_table(path, layer="points")
    assert isinstance(points, gpd.GeoDataFrame)
    assert points.crs.to_epsg() == 25830
    assert list(points.columns) == [
        "sample_id",
        "stratum",
        "x",
        "y",
        "reference",
        "confidence",
        "note",
        "geometry",
    ]
    assert points["sample_id"].tolist() == list(range(1, 301))
    assert (points.geometry.x == points["x"]).all()
    assert (points["reference"].fillna("") == "").all()
    filled = fill_in(path, truth, empty=7)
    filled.drop(columns=["geometry", "stratum"]).sample(frac=1, random_state=0).to_csv(
        tmp_path / "responses.csv", index=False
    )
    sample = read_sample(path, source, responses=tmp_path / "responses.csv")
    assert sample.points == 293
    assert sample.missing_responses == 7
    assert sample.strata_are_classes
    assert sample.pixel_area_ha == pytest.approx(0.01)
    real, mapped = pixels_of(truth), pixels_of(source)
    drawn = draw_points(source, design=design)
    expected = np.zeros((6, 6), int)
    np.add.at(expected, (mapped[drawn.row, drawn.col][7:] - 1, real[drawn.row, drawn.col][7:] - 1), 1)
    assert sample.matrix.tolist() == expected.tolist()
    # the same sample assesses another map, whose classes are not the strata
    other = read_sample(path, truth, responses=tmp_path / "responses.csv")
    assert not other.strata_are_classes
    assert estimate_accuracy(other, bootstrap=10).overall.value == pytest.approx(1.0)


def test_strata_can_be_hidden_and_the_map_class_shown(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif", nodata=0.0)
    design = plan_sample(source, points=100, minimum=5)
    path = draw_sample(source, tmp_path / "s.gpkg", design=design, hide_strata=True, show=source)
    points = read_table(path, layer="points")
    assert "stratum" not in points.columns
    assert points["map_class"].tolist() == read_table(path, layer="key")["stratum"].tolist()


def test_strata_may_be_joined_by_a_crosswalk_and_responses_given_in_either_legend(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif", nodata=0.0)
    context = open_legend("lulucf-context")
    to = {"forest_land": "forest", "cropland": "crops", "grassland": "pasture"}
    rows = tuple(CrosswalkRow(code, to.get(code, "bare")) for code in LULUCF.codes)
    crosswalk = Crosswalk("lulucf", context, rows)
    design = plan_sample(source, points=120, minimum=10, crosswalk=crosswalk)
    assert [item.code for item in design.strata] == ["forest", "crops", "pasture", "bare"]
    path = draw_sample(source, tmp_path / "s.gpkg", design=design, crosswalk=crosswalk)
    filled = fill_in(path, source)
    crops = filled["reference"].isin(["cropland"])
    filled.loc[crops, "reference"] = "crops"
    filled.drop(columns="geometry").to_csv(tmp_path / "a.csv", index=False)
    sample = read_sample(path, source, crosswalk=crosswalk, responses=tmp_path / "a.csv")
    assert sample.classes == context.codes
    assert np.trace(sample.matrix) == 120


def test_a_sample_of_two_maps_assesses_their_change(tmp_path: Path) -> None:
    before, after = (random_map(tmp_path / f"{k}.tif", nodata=0.0, seed=k) for k in (0, 1))
    strata = map_changes(before, after, tmp_path / "changes.tif")
    design = plan_sample(strata, points=400, minimum=2)
    path = draw_sample(strata, tmp_path / "s.gpkg", design=design)
    points = read_table(path, layer="points")
    points["reference"] = [
        change_code(a, b)
        for a, b in zip(fill_in(path, before)["reference"], fill_in(path, after)["reference"], strict=True)
    ]
    points.drop(columns="geometry").to_csv(tmp_path / "a.csv", index=False)
    sample = read_sample(path, [before, after], responses=tmp_path / "a.csv")
    assert sample.classes == change_legend(LULUCF).codes
    assert np.trace(sample.matrix) == 400
    assert points["stratum"].tolist() == points["reference"].tolist()


def test_mistakes_in_responses_are_named(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif")
    path = draw_sample(source, tmp_path / "s.gpkg", design=plan_sample(source, points=100, minimum=5))
    responses = read_table(path, layer="points").drop(columns="geometry")
    responses["reference"] = "forest_land"
    wrong = responses.copy()
    wrong.loc[3, "reference"] = "forrest_land"
    wrong.to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(LegendError, match="did you mean 'forest_land'"):
        read_sample(path, source, responses=tmp_path / "wrong.csv")
    pd.concat([responses, responses.iloc[:1]]).to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(InputError, match="sample_id 1 is there twice"):
        read_sample(path, source, responses=tmp_path / "twice.csv")
    responses.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match="has no column truth"):
        read_sample(path, source, responses=tmp_path / "a.csv", field="truth")
    with pytest.raises(InputError, match="The sample has no responses"):
        read_sample(path, source)
    empty = write_map(tmp_path / "e.tif", np.zeros((120, 90), np.uint8), grid(120, 90), legend=LULUCF)
    with pytest.raises(InputError, match="has no class at 100 of the 100 points"):
        read_sample(path, empty, responses=tmp_path / "a.csv")
    with pytest.raises(InputError, match="no such file"):
        read_sample(tmp_path / "none.gpkg", source)


def test_a_sample_whose_file_was_edited_is_refused(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif")
    path = draw_sample(source, tmp_path / "s.gpkg", design=plan_sample(source, points=100, minimum=5))
    whole = {name: read_table(path, layer=name) for name in ("points", "strata", "key", "classes")}
    whole["points"]["reference"] = "forest_land"
    points, strata, key = (whole[name] for name in ("points", "strata", "key"))
    for name, table, message in (
        ("points", points.iloc[5:], r"5 of the 100 points drawn are missing \(sample_id 1, 2, 3, 4, 5\)"),
        ("key", key.iloc[5:], "sample_id 1, 2, 3, 4, 5 was not drawn"),
        ("points", points.assign(x=np.nan), "a point has no sample_id, x or y"),
        ("points", pd.concat([points, points.iloc[:1]]), "sample_id 1 is there twice"),
        ("points", points.drop(columns="x"), "Unknown field 'x'"),
        ("strata", strata.assign(size_px=-1), "its table 'strata' was changed"),
        ("strata", strata.iloc[:0], "its table 'strata' was changed"),
        ("strata", strata.drop(columns="size_px"), "Unknown field 'size_px'"),
    ):
        write_layers(path, {**whole, name: table})
        with pytest.raises(InputError, match=message):
            read_sample(path, source)
    write_layers(path, whole)
    for text, message in (
        ("x,forest_land", "a sample_id is no number"),
        ("999,forest_land", "999 is no point of"),
    ):
        (tmp_path / "a.csv").write_text(f"sample_id,reference\n{text}\n")
        with pytest.raises(InputError, match=message):
            read_sample(path, source, responses=tmp_path / "a.csv")
    with pytest.raises(InputError, match="100 points of this sample have a response"):
        draw_sample(source, path, design=plan_sample(source, points=100, minimum=5))
    with pytest.raises(InputError, match=r"a name that ends in \.gpkg"):
        draw_sample(source, tmp_path / "s.csv", design=plan_sample(source, points=100, minimum=5))
    with pytest.raises(InputError, match="seed -1; neither may be below 0"):
        plan_sample(source, points=100, seed=-1)


def test_points_are_located_in_a_map_of_another_coordinate_system(tmp_path: Path) -> None:
    values = np.tile(np.array([[1, 2]], np.uint8), (40, 20))
    source = write_map(tmp_path / "map.tif", values, grid(40, 40, size_m=100.0), legend=LULUCF)
    x, y = np.array([ORIGIN[0] + 50.0, ORIGIN[0] + 150.0]), np.array([ORIGIN[1] - 50.0, ORIGIN[1] - 50.0])
    moved = gpd.GeoSeries(gpd.points_from_xy(x, y), crs=UTM).to_crs("EPSG:4326")
    values_at = class_values_at(source, moved.x.to_numpy(), moved.y.to_numpy(), crs="EPSG:4326")
    assert values_at.tolist() == [1, 2]
    outside = class_values_at(source, np.array([0.0]), np.array([0.0]), crs="EPSG:4326")
    assert outside.tolist() == [0]


def test_estimates_of_shares_scale_to_areas() -> None:
    (estimate,) = estimates_of(np.array([0.2]), np.array([0.05]), "wald")
    area = estimate.scaled(1000)
    assert (area.value, area.se, area.low, area.high) == pytest.approx((200, 50, 102, 298))


# --- on the command line


def interpreted(path: Path, out: Path, codes: dict[int, str]) -> Path:
    """The sample with responses: the true class of each point, by its sample_id."""
    layers = {name: read_table(path, layer=name) for name in ("points", "strata", "key")}
    layers["points"]["reference"] = [codes[int(number)] for number in layers["points"]["sample_id"]]
    return write_layers(out, layers)


def test_a_sample_is_drawn_and_estimated_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = random_map(tmp_path / "map.tif")
    sample = tmp_path / "sample.gpkg"
    arguments = ["sample", "draw", source.path, "-o", str(sample), "--points", "150", "--minimum", "10"]
    assert main([*arguments, "--expected", "0.9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["stratum", "name", "pixels", "share", "points"]
    assert sum(int(line.split()[-1]) for line in lines[2:-3]) == 150
    empty = int((pixels_of(source) == 0).sum())
    assert lines[-3].startswith(f"{empty:,} px (")
    assert lines[-3].endswith("have no class and are left out of the sample")
    assert "150 points, expected standard error of overall accuracy 0.0" in lines[-2]
    assert main([*arguments, "--json", "--design", "simple"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["rule"], plan["points"], len(plan["strata"])) == ("simple", 150, 1)
    assert plan["expected_se"] == pytest.approx(np.sqrt(0.85 * 0.15 / 150), rel=0.02)
    assert main(arguments) == 0
    capsys.readouterr()
    points = read_table(sample, layer="points")
    truth = {int(i): str(code) for i, code in zip(points["sample_id"], points["stratum"], strict=True)}
    wrong = next(number for number, code in truth.items() if code == "forest_land")
    truth[wrong] = "cropland"
    filled = interpreted(sample, tmp_path / "filled.gpkg", truth)
    estimate = ["sample", "estimate", str(filled), source.path, "-o", str(tmp_path / "out")]
    assert main([*estimate, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["points"] == 150
    expected = estimate_accuracy(read_sample(filled, source))
    assert document["overall"] == expected.overall.to_dict()
    assert 0.98 < document["overall"]["value"] < 1
    assert (
        json.loads((tmp_path / "out" / "accuracy.json").read_text(encoding="utf-8"))["overall"]
        == document["overall"]
    )
    page = Path(document["page"]).read_text(encoding="utf-8")
    assert f"{100 * expected.overall.value:.1f} %" in page
    assert "://" not in page
    assert main(estimate) == 0
    assert capsys.readouterr().out.startswith("150 points, overall accuracy 99.")


def test_strata_of_another_map_and_wrong_calls_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, other = random_map(tmp_path / "map.tif"), random_map(tmp_path / "other.tif", seed=3)
    drawn = ["sample", "draw", source.path, "-o", str(tmp_path / "s.gpkg")]
    assert main([*drawn, "--points", "90", "--minimum", "5", "--strata", other.path, "--json"]) == 0
    sizes = np.bincount(pixels_of(other).ravel(), minlength=7)[1:]
    strata = json.loads(capsys.readouterr().out)["strata"]
    assert [item["size_px"] for item in strata] == sizes.tolist()
    for call, message in (
        ([*drawn, "--points", "9", "--target-error", "0.1"], "give one of the two"),
        ([*drawn, "--points", "90", "--expected", "good"], "'good' is no expected accuracy"),
        (
            [*drawn, "--points", "90", "--minimum", "5", "--allocation", "neyman", "--expected", "x=1"],
            "The expected accuracy of forest_land",
        ),
    ):
        assert main(call) == 1
        assert message in capsys.readouterr().err
    assert main(["assess", source.path, "-o", str(tmp_path / "out")]) == 2
    assert "Missing argument 'REFERENCE'" in capsys.readouterr().err
    assert main(["assess", source.path, source.path]) == 2
    assert "Missing option '--out'" in capsys.readouterr().err


def test_the_expected_error_of_a_plan_is_that_of_its_design() -> None:
    """Two strata by hand: sqrt(0.25² 0.9 0.21/10 + 0.75² 0.9 0.09/30), with users' accuracies of 0.7 and 0.9."""
    design = SamplingDesign(
        (Stratum("a", "A", 100, 10), Stratum("b", "B", 300, 30)), rule="equal", seed=0, pixel_area_m2=100.0
    )
    by_hand = np.sqrt(0.25**2 * 0.9 * 0.21 / 10 + 0.75**2 * 0.9 * 0.09 / 30)
    assert design.expected_se({"a": 0.7, "b": 0.9}) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("sizes", "points", "allocated"),
    [
        ([260, 260, 480], 10, [3, 2, 5]),  # quotas 2.6, 2.6, 4.8: plain rounding gives 11 points
        ([240, 240, 520], 10, [3, 2, 5]),  # quotas 2.4, 2.4, 5.2: plain rounding gives 9
        ([250, 350, 400], 12, [3, 4, 5]),  # quotas 3, 4.2, 4.8
    ],
)
def test_the_largest_remainders_get_the_points_that_are_left(
    sizes: list[int], points: int, allocated: list[int]
) -> None:
    assert allocate(points, np.array(sizes), minimum=2).tolist() == allocated


@given(st.lists(st.integers(100_000, 1_000_000), min_size=2, max_size=20), st.integers(500, 5_000))
@settings(max_examples=100, deadline=None)
def test_no_stratum_is_rounded_up_before_one_with_a_larger_remainder(sizes: list[int], points: int) -> None:
    pixels = np.array(sizes)
    quota = points * pixels / pixels.sum()
    allocated = allocate(points, pixels, minimum=2)
    up = allocated > np.floor(quota + 1e-6)
    assert (np.abs(allocated - quota) < 1 + 1e-6).all()
    remainder = quota - np.floor(quota + 1e-6)
    if up.any() and not up.all():
        assert remainder[up].min() >= remainder[~up].max() - 1e-6


def test_the_sample_size_of_a_small_map_is_smaller() -> None:
    one, half = np.array([1.0]), np.array([0.5])  # S² = 0.25: 0.25 / (0.05² + 0.25 / N)
    assert sample_size(one, half, target_se=0.05) == pytest.approx(100)
    assert sample_size(one, half, target_se=0.05, population_px=100) == pytest.approx(50)


def test_a_plan_for_a_large_error_still_gives_every_stratum_its_minimum(tmp_path: Path) -> None:
    design = plan_sample(random_map(tmp_path / "map.tif"), target_se=0.3, minimum=30)
    assert [item.points for item in design.strata] == [30] * 6


def test_points_are_pixel_centres_and_points_beside_a_map_have_no_class(tmp_path: Path) -> None:
    source = random_map(tmp_path / "map.tif", nodata=0.0)
    path = draw_sample(source, tmp_path / "s.gpkg", design=plan_sample(source, points=60, minimum=2))
    points = read_table(path, layer="points")
    assert set((points["x"] - ORIGIN[0]) % 10) == {5.0}
    assert set((ORIGIN[1] - points["y"]) % 10) == {5.0}
    x, y = ORIGIN[0] + np.array([-5.0, 5.0, 905.0, 5.0]), ORIGIN[1] + np.array([-5.0, 5.0, -5.0, -1205.0])
    assert class_values_at(source, x, y, crs=UTM).tolist() == [0, 0, 0, 0]
